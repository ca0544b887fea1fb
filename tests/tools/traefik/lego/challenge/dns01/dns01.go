// Package dns01 holds options that nobody reads, and the one function of it that Traefik's TLS
// store needs.
package dns01

import (
	"strings"
	"time"
)

// Options of a client.
type Options struct {
	RecursiveNameservers []string
}

// Client asks nobody.
type Client struct{}

// Option of a challenge.
type Option struct{}

// NewClient makes a client.
func NewClient(*Options) *Client { return &Client{} }

// SetDefaultClient does nothing.
func SetDefaultClient(*Client) {}

// CondOptions does nothing.
func CondOptions(bool, ...Option) Option { return Option{} }

// DisableAuthoritativeNssPropagationRequirement does nothing.
func DisableAuthoritativeNssPropagationRequirement() Option { return Option{} }

// DisableRecursiveNSsPropagationRequirement does nothing.
func DisableRecursiveNSsPropagationRequirement() Option { return Option{} }

// PropagationWait does nothing.
func PropagationWait(time.Duration, bool) Option { return Option{} }

// UnFqdn takes the dot off the end of a name.
func UnFqdn(name string) string { return strings.TrimSuffix(name, ".") }
