// Package http01 keeps the path that Traefik watches for this challenge.
package http01

import "time"

// PathPrefix is where RFC 8555 puts the proof.
const PathPrefix = "/.well-known/acme-challenge/"

// SetDelay does nothing.
func SetDelay(time.Duration) any { return nil }
