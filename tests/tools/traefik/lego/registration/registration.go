// Package registration registers no accounts.
package registration

import (
	"context"

	"github.com/go-acme/lego/v5/acme"
)

// RegisterOptions go with a registration.
type RegisterOptions struct {
	TermsOfServiceAgreed bool
}

// RegisterEABOptions go with a registration that is bound to an account elsewhere.
type RegisterEABOptions struct {
	Kid                  string
	HmacEncoded          string
	TermsOfServiceAgreed bool
}

// Registrar refuses.
type Registrar struct{}

// Register refuses.
func (Registrar) Register(context.Context, RegisterOptions) (*acme.ExtendedAccount, error) {
	return nil, acme.ErrLeftOut
}

// RegisterWithExternalAccountBinding refuses.
func (Registrar) RegisterWithExternalAccountBinding(context.Context, RegisterEABOptions) (*acme.ExtendedAccount, error) {
	return nil, acme.ErrLeftOut
}
