// Package ext stands where Traefik expects the extensions of its dynamic configuration. Traefik's
// own go.mod points to a folder of its tree for them, which another module cannot reach; they are
// empty there as well.
package ext

// HTTP extends the HTTP section.
type HTTP struct{}

// Router extends a router.
type Router struct{}
