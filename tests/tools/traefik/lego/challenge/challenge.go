// Package challenge says what Traefik offers a certificate authority as proof.
package challenge

import "context"

// Provider shows a proof and takes it away again.
type Provider interface {
	Present(ctx context.Context, domain, token, keyAuth string) error
	CleanUp(ctx context.Context, domain, token, keyAuth string) error
}

// Solvers take providers and never use one.
type Solvers struct{}

// SetDNS01Provider does nothing.
func (Solvers) SetDNS01Provider(Provider, ...any) error { return nil }

// SetHTTP01Provider does nothing.
func (Solvers) SetHTTP01Provider(Provider, ...any) error { return nil }

// SetTLSALPN01Provider does nothing.
func (Solvers) SetTLSALPN01Provider(Provider, ...any) error { return nil }
