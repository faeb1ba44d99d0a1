package authn_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"

	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/authn"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
)

// call is what a request brings.
type call struct {
	meta map[string][]string
	tls  *tls.ConnectionState
}

func (c call) MetadataValues(key string) []string { return c.meta[key] }
func (c call) TLS() *tls.ConnectionState          { return c.tls }
func (c call) Metadata(key string) string {
	if len(c.meta[key]) == 0 {
		return ""
	}
	return c.meta[key][0]
}

func certified(names ...string) *tls.ConnectionState {
	state := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{}}}
	for _, name := range names {
		leaf := &x509.Certificate{Subject: pkix.Name{CommonName: name}}
		state.VerifiedChains = append(state.VerifiedChains, []*x509.Certificate{leaf, {Subject: pkix.Name{CommonName: "the CA"}}})
	}
	return state
}

// view is a View's answers.
type view struct{ enabled bool }

func (v view) Enabled() bool    { return v.enabled }
func (v view) Revision() uint64 { return 9 }

func TestIdentity(t *testing.T) {
	m := newMember(t, 0, 0)
	ann, bob := m.login(t, "ann"), m.login(t, "bob")
	nobody := authn.Identity{}
	user := func(name string) authn.Identity { return authn.Identity{User: name, Revision: 9} }
	type meta = map[string][]string
	unverified := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{Subject: pkix.Name{CommonName: "liar"}}}}
	for _, c := range []struct {
		what   string
		call   call
		off    bool // authentication
		noCert bool // --client-cert-auth is not set
		want   authn.Identity
		wait   ids.Index
		err    error
	}{
		{what: "nothing", want: nobody},
		{what: "token", call: call{meta: meta{"token": {ann}}}, want: user("ann")},
		{what: "header", call: call{meta: meta{"authorization": {ann}}}, want: user("ann")},
		{what: "bearer header", call: call{meta: meta{"authorization": {"Bearer " + ann}}}, want: user("ann")},
		{what: "bearer token", call: call{meta: meta{"token": {"Bearer " + ann}}}, want: user("ann")},
		{what: "token before header", call: call{meta: meta{"token": {ann}, "authorization": {bob}}}, want: user("ann")},
		{what: "first token", call: call{meta: meta{"token": {bob, ann}}}, want: user("bob")},
		{what: "lower-case bearer", call: call{meta: meta{"authorization": {"bearer " + ann}}}, err: fault.InvalidAuthToken},
		{what: "two bearers", call: call{meta: meta{"authorization": {"Bearer Bearer " + ann}}}, err: fault.InvalidAuthToken},
		{what: "wrong token", call: call{meta: meta{"token": {"x" + ann}}}, err: fault.InvalidAuthToken},
		{what: "wrong token beside a right header", call: call{meta: meta{"token": {"x"}, "authorization": {ann}}}, err: fault.InvalidAuthToken},
		{what: "empty token", call: call{meta: meta{"token": {""}}}, err: fault.InvalidAuthToken},
		{what: "empty token beside a right one", call: call{meta: meta{"token": {"", ann}}}, err: fault.InvalidAuthToken},
		{what: "basic", call: call{meta: meta{"authorization": {"Basic YTpi"}}}, err: fault.InvalidAuthToken},
		{what: "later token", call: call{meta: meta{"token": {"abcdefghijklmnop.50"}}}, wait: 50, err: fault.InvalidAuthToken},

		{what: "certificate", call: call{tls: certified("cora", "dora")}, want: user("cora")},
		{what: "certificate without a name", call: call{tls: certified("")}, want: user("")},
		{what: "token before certificate", call: call{meta: meta{"token": {ann}}, tls: certified("cora")}, want: user("ann")},
		{what: "wrong token, right certificate", call: call{meta: meta{"token": {"x"}}, tls: certified("cora")}, err: fault.InvalidAuthToken},
		{what: "gateway", call: call{meta: meta{"grpcgateway-accept": {"*/*"}}, tls: certified("cora")}, want: nobody},
		{what: "gateway, empty", call: call{meta: meta{"grpcgateway-accept": {""}}, tls: certified("cora")}, want: nobody},
		{what: "gateway with a token", call: call{meta: meta{"grpcgateway-accept": {"*/*"}, "authorization": {ann}}, tls: certified("cora")}, want: user("ann")},
		{what: "TLS without certificate", call: call{tls: certified()}, want: nobody},
		{what: "unverified certificate", call: call{tls: unverified}, want: nobody},
		{what: "certificates do not count", call: call{tls: certified("cora")}, noCert: true, want: nobody},

		{what: "off, nothing", off: true, want: nobody},
		{what: "off, wrong token", off: true, call: call{meta: meta{"token": {"x"}}}, want: nobody},
		{what: "off, certificate", off: true, call: call{meta: meta{"token": {ann}}, tls: certified("cora")}, want: user("cora")},
	} {
		k := authn.Keeper{Tokens: m.Tokens, Certificates: !c.noCert}
		id, wait, err := k.Identity(view{!c.off}, c.call)
		require.Equal(t, c.want, id, c.what)
		require.Equal(t, c.wait, wait, c.what)
		require.Equal(t, c.err, err, c.what)
	}
}

func TestIdentityOfJWT(t *testing.T) {
	w := newWeb(t, "ES256", newPair(t, "ES256", 0), false)
	token := w.issue(t, "ann", 4)
	k := authn.Keeper{Tokens: w.Tokens}
	id, _, err := k.Identity(view{true}, call{meta: map[string][]string{"authorization": {"Bearer " + token}}})
	require.NoError(t, err)
	require.Equal(t, authn.Identity{User: "ann", Revision: 4}, id, "the token's own revision, so that a change of users ends it")
	w.clock.Advance(61e9)
	_, wait, err := k.Identity(view{true}, call{meta: map[string][]string{"token": {token}}})
	require.Equal(t, fault.InvalidAuthToken, err)
	require.Zero(t, wait)
}
