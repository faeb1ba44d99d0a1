package authn

import (
	"crypto/tls"
	"strings"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
)

// The metadata of a request that say who sends it (source: etcd v3.7 api/v3rpc/rpctypes/metadatafields.go).
const (
	metaToken   = "token"
	metaHeader  = "authorization"
	metaGateway = "grpcgateway-accept"
	bearer      = "Bearer "
)

// Users is what the decision about a request is made with; an *auth.View is one.
type Users interface {
	Enabled() bool
	Revision() uint64
}

// Caller is a unary call or a stream of package rpc.
type Caller interface {
	Metadata(key string) string
	MetadataValues(key string) []string
	TLS() *tls.ConnectionState
}

// Keeper finds out who sent a request.
type Keeper struct {
	Tokens       Tokens
	Certificates bool // the name in a client's certificate counts (--client-cert-auth)
}

// Identity says who sent a request; the zero Identity is nobody, whom package auth may still refuse. Every unary call and
// every request of a stream is asked about, since a token may end while a stream lives. A token counts before a certificate,
// and not at all while authentication is off.
//
// A wrong token is fault.InvalidAuthToken. With that error, wait above 0 says that this member may know the token once it
// has applied that index: whoever can wait asks again then, and returns the error when the request's time is over.
func (k *Keeper) Identity(users Users, c Caller) (id Identity, wait ids.Index, err error) {
	revision := users.Revision()
	if users.Enabled() {
		if token, ok := tokenOf(c); ok {
			id, wait, ok := k.Tokens.Identify(token, revision)
			if !ok {
				return Identity{}, wait, fault.InvalidAuthToken
			}
			return id, 0, nil
		}
	}
	if !k.Certificates {
		return Identity{}, 0, nil
	}
	// A gateway passes on the requests of others under a certificate of its own.
	if _, passed := value(c, metaGateway); passed {
		return Identity{}, 0, nil
	}
	name, ok := commonName(c.TLS())
	return Identity{name, revision}.or(ok), 0, nil
}

// tokenOf is the token of a request. One that is there and empty counts, and is wrong.
func tokenOf(c Caller) (string, bool) {
	token, ok := value(c, metaToken)
	if !ok {
		token, ok = value(c, metaHeader)
	}
	return strings.TrimPrefix(token, bearer), ok
}

func value(c Caller, key string) (string, bool) {
	if v := c.Metadata(key); v != "" {
		return v, true
	}
	return "", len(c.MetadataValues(key)) > 0
}

// commonName is the name in the certificate that a client was verified by.
func commonName(state *tls.ConnectionState) (string, bool) {
	if state == nil {
		return "", false
	}
	for _, chain := range state.VerifiedChains {
		if len(chain) > 0 {
			return chain[0].Subject.CommonName, true
		}
	}
	return "", false
}
