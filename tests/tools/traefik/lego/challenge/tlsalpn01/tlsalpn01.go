// Package tlsalpn01 keeps the protocol name that Traefik's TLS parts compare with.
package tlsalpn01

import (
	"time"

	"github.com/go-acme/lego/v5/acme"
)

// ACMETLS1Protocol is the ALPN name of RFC 8737.
const ACMETLS1Protocol = "acme-tls/1"

// ChallengeBlocks refuses.
func ChallengeBlocks(string, string) ([]byte, []byte, error) {
	return nil, nil, acme.ErrLeftOut
}

// SetDelay does nothing.
func SetDelay(time.Duration) any { return nil }
