// Package acme stands where Traefik expects lego's. Like its neighbours it has just what Traefik
// needs to compile, and refuses to do anything.
package acme

import "errors"

// ErrLeftOut is what everything answers that would have to talk to a certificate authority.
var ErrLeftOut = errors.New("this Traefik was built without ACME")

// Account is what a certificate authority knows of an account.
type Account struct{}

// ExtendedAccount is an account and where it is kept.
type ExtendedAccount struct {
	Account

	Location string
}
