package authn_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/authn"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/limits"
)

var webMethods = []string{"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

var rsaKeys = sync.OnceValue(func() [2]*rsa.PrivateKey {
	var out [2]*rsa.PrivateKey
	for i := range out {
		out[i], _ = rsa.GenerateKey(rand.Reader, 2048)
	}
	return out
})

// pair is a key for a method: what signs, and the two files.
type pair struct {
	sign            any
	private, public []byte
}

func newPair(t testing.TB, method string, n int) pair {
	var key crypto.Signer
	var err error
	switch method[:2] {
	case "HS":
		secret := bytes.Repeat([]byte{byte('a' + n)}, 40)
		return pair{secret, secret, nil}
	case "RS", "PS":
		key = rsaKeys()[n]
	case "ES":
		curve := map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}[method]
		key, err = ecdsa.GenerateKey(curve, rand.Reader)
	default:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	}
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(t, err)
	return pair{key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})}
}

// web is a member with JSON web tokens.
type web struct {
	authn.Tokens
	cfg   authn.TokenConfig
	clock *clock.Manual
	log   *warnings
	files int
}

type warnings struct {
	mu   sync.Mutex
	text []string
}

func (w *warnings) warn(text string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, fmt.Sprint(text, ": ", err))
}

// put writes a key file, with a time of its own so that every write is seen as a change.
func (w *web) put(t testing.TB, name string, text []byte) {
	require.NoError(t, os.WriteFile(name, text, 0o600))
	w.files++
	at := epoch.Add(time.Duration(w.files) * time.Hour)
	require.NoError(t, os.Chtimes(name, at, at))
}

// newWeb opens tokens with p's files; verifyOnly leaves out the private one.
func newWeb(t testing.TB, method string, p pair, verifyOnly bool) *web {
	dir := t.TempDir()
	w := &web{clock: clock.NewManual(epoch), log: &warnings{}}
	w.cfg = authn.TokenConfig{Kind: authn.KindJWT, Clock: w.clock, Warn: w.log.warn, JWT: authn.JWTConfig{Method: method, TTL: time.Minute}}
	if p.public != nil {
		w.cfg.JWT.PublicKey = filepath.Join(dir, "pub.pem")
		w.put(t, w.cfg.JWT.PublicKey, p.public)
	}
	if !verifyOnly {
		w.cfg.JWT.PrivateKey = filepath.Join(dir, "priv.pem")
		w.put(t, w.cfg.JWT.PrivateKey, p.private)
	}
	var err error
	w.Tokens, err = authn.OpenTokens(w.cfg)
	require.NoError(t, err)
	return w
}

func (w *web) issue(t testing.TB, user string, revision uint64) string {
	prefix, err := w.Prefix()
	require.NoError(t, err)
	require.Empty(t, prefix, "a JWT needs no word in the log")
	token, err := w.Issue(user, prefix, 3, revision)
	require.NoError(t, err)
	return token
}

func (w *web) knows(token string) bool {
	id, wait, ok := w.Identify(token, 99)
	return ok && wait == 0 && id == authn.Identity{User: "ann", Revision: 12}
}

func good() jwt.MapClaims {
	return jwt.MapClaims{"username": "ann", "revision": 12, "exp": epoch.Add(time.Minute).Unix()}
}

func signed(t testing.TB, method string, key any, claims jwt.MapClaims) string {
	token, err := jwt.NewWithClaims(jwt.GetSigningMethod(method), claims).SignedString(key)
	require.NoError(t, err)
	return token
}

func TestWebTokenMethods(t *testing.T) {
	for _, method := range webMethods {
		t.Run(method, func(t *testing.T) {
			p := newPair(t, method, 0)
			w := newWeb(t, method, p, false)
			token := w.issue(t, "ann", 12)
			require.True(t, w.knows(token))
			require.True(t, w.knows(token), "from memory")
			require.True(t, w.knows(signed(t, method, p.sign, good())), "made elsewhere with the same key")

			parsed, _, err := jwt.NewParser().ParseUnverified(token, jwt.MapClaims{})
			require.NoError(t, err)
			require.Equal(t, jwt.MapClaims{"username": "ann", "revision": 12.0, "exp": float64(epoch.Add(time.Minute).Unix())}, parsed.Claims)

			require.False(t, w.knows(signed(t, method, newPair(t, method, 1).sign, good())), "another key")
			require.False(t, w.knows(signed(t, "none", jwt.UnsafeAllowNoneSignatureType, good())), "no signature")
			for _, other := range webMethods {
				if other != method {
					require.False(t, w.knows(signed(t, other, newPair(t, other, 0).sign, good())), other)
				}
			}
			for i := range token {
				if c := token[i] ^ 1; c != '.' && token[i] != '.' && i%7 == 0 && i < len(token)-2 {
					require.False(t, w.knows(token[:i]+string(rune(c))+token[i+1:]), "changed at %d", i)
				}
			}
			w.clock.Advance(60 * time.Second)
			require.False(t, w.knows(token), "expired, though remembered")
		})
	}
}

// TestWebTokenConfusion signs with the public key as if it were a shared secret, under the name of every other method.
func TestWebTokenConfusion(t *testing.T) {
	for _, method := range []string{"RS256", "PS256", "ES256", "EdDSA"} {
		p := newPair(t, method, 0)
		w := newWeb(t, method, p, false)
		for _, shared := range []string{"HS256", "HS384", "HS512"} {
			require.False(t, w.knows(signed(t, shared, p.public, good())), "%s as %s", method, shared)
			forged := signed(t, shared, p.public, good())
			header := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"alg":%q,"typ":"JWT"}`, method))
			require.False(t, w.knows(header+forged[strings.IndexByte(forged, '.'):]))
		}
	}
	rs := newPair(t, "RS256", 0)
	require.False(t, newWeb(t, "RS256", rs, false).knows(signed(t, "PS256", rs.sign, good())), "the same key, another method")
}

func TestWebTokenClaims(t *testing.T) {
	p := newPair(t, "ES256", 0)
	w := newWeb(t, "ES256", p, false)
	with := func(key string, value any) string {
		c := good()
		c[key] = value
		if value == nil {
			delete(c, key)
		}
		return signed(t, "ES256", p.sign, c)
	}
	require.True(t, w.knows(with("iss", "somebody")), "other claims do not matter")
	require.True(t, w.knows(with("nbf", epoch.Unix())))
	require.True(t, w.knows(with("exp", epoch.Add(1000*time.Hour).Unix())), "longer than our own")
	for _, wrong := range []struct {
		key   string
		value any
	}{
		{"username", nil}, {"username", 7}, {"revision", nil}, {"revision", "12"}, {"revision", -1}, {"revision", 1e300},
		{"exp", nil}, {"exp", 0}, {"exp", "soon"}, {"exp", epoch.Unix()}, {"exp", epoch.Add(-time.Hour).Unix()},
		{"nbf", epoch.Add(time.Hour).Unix()}, {"nbf", "late"},
	} {
		require.False(t, w.knows(with(wrong.key, wrong.value)), "%s %v", wrong.key, wrong.value)
	}
	for _, wrong := range []string{"", ".", "..", "a.b.c", strings.Repeat("x", limits.TokenBytes+1), "e30.e30.", with("iss", strings.Repeat("x", limits.TokenBytes))} {
		require.False(t, w.knows(wrong))
	}
	id, _, ok := w.Identify(with("revision", float64(uint64(math.MaxUint32))), 1)
	require.True(t, ok)
	require.Equal(t, uint64(math.MaxUint32), id.Revision)
}

func TestWebTokenVerifyOnly(t *testing.T) {
	for _, method := range []string{"RS256", "PS512", "ES384", "EdDSA"} {
		p := newPair(t, method, 0)
		w := newWeb(t, method, p, true)
		require.True(t, w.knows(signed(t, method, p.sign, good())), method)
		_, err := w.Prefix()
		require.ErrorIs(t, err, fault.TokenVerifyOnly)
		_, err = w.Issue("ann", "", 1, 1)
		require.ErrorIs(t, err, fault.TokenVerifyOnly)
		w.Assign("ann", "", 1)
		w.Invalidate("")
		authn.CloseTokens(w.Tokens)
	}
}

func TestWebTokenBadSettings(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, text []byte) string {
		name = filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(name, text, 0o600))
		return name
	}
	ec, other, bigger, rs := newPair(t, "ES256", 0), newPair(t, "ES256", 1), newPair(t, "ES384", 0), newPair(t, "RS256", 0)
	private, public, empty := file("priv", ec.private), file("pub", ec.public), file("empty", nil)
	for _, c := range []struct {
		says string
		cfg  authn.JWTConfig
	}{
		{`sign-method ""`, authn.JWTConfig{PrivateKey: private}},
		{`sign-method "none"`, authn.JWTConfig{PrivateKey: private, Method: "none"}},
		{`sign-method "es256"`, authn.JWTConfig{PrivateKey: private, Method: "es256"}},
		{"needs a pub-key", authn.JWTConfig{Method: "ES256"}},
		{"needs a pub-key", authn.JWTConfig{Method: "ES256", PublicKey: empty, PrivateKey: empty}},
		{"needs the file of its secret", authn.JWTConfig{Method: "HS256", PublicKey: public}},
		{"no such file", authn.JWTConfig{Method: "ES256", PublicKey: public, PrivateKey: filepath.Join(dir, "none")}},
		{"no such file", authn.JWTConfig{Method: "HS256", PublicKey: filepath.Join(dir, "none"), PrivateKey: private}},
		{"no public key for ES256", authn.JWTConfig{Method: "ES256", PublicKey: private}},
		{"no private key for ES256", authn.JWTConfig{Method: "ES256", PrivateKey: public}},
		{"no public key for RS256", authn.JWTConfig{Method: "RS256", PublicKey: public}},
		{"no private key for EdDSA", authn.JWTConfig{Method: "EdDSA", PrivateKey: file("rsa", rs.private)}},
		{"no private key for PS256", authn.JWTConfig{Method: "PS256", PrivateKey: private}},
		{"curve", authn.JWTConfig{Method: "ES256", PrivateKey: file("priv384", bigger.private)}},
		{"curve", authn.JWTConfig{Method: "ES256", PublicKey: file("pub384", bigger.public)}},
		{"don't match", authn.JWTConfig{Method: "ES256", PublicKey: file("other", other.public), PrivateKey: private}},
		{"negative", authn.JWTConfig{Method: "ES256", PrivateKey: private, TTL: -time.Second}},
	} {
		_, err := authn.OpenTokens(authn.TokenConfig{Kind: authn.KindJWT, Clock: clock.Real(), JWT: c.cfg})
		require.ErrorContains(t, err, c.says)
		noSecret(t, err.Error(), ec.private)
	}
	tokens, err := authn.OpenTokens(authn.TokenConfig{Kind: authn.KindJWT, Clock: clock.NewManual(epoch),
		JWT: authn.JWTConfig{Method: "ES256", PublicKey: public, PrivateKey: empty}})
	require.NoError(t, err, "an empty file is no key")
	_, err = tokens.Prefix()
	require.ErrorIs(t, err, fault.TokenVerifyOnly)
}

// noSecret checks that no line of a key is in a text.
func noSecret(t testing.TB, text string, key []byte) {
	t.Helper()
	for line := range strings.Lines(string(key)) {
		if line = strings.TrimSpace(line); len(line) > 8 && !strings.HasPrefix(line, "-----") {
			require.NotContains(t, text, line[:8])
		}
	}
}

func TestWebTokenRotation(t *testing.T) {
	for _, method := range []string{"HS256", "RS256", "ES256", "EdDSA"} {
		t.Run(method, func(t *testing.T) {
			before, after := newPair(t, method, 0), newPair(t, method, 1)
			w := newWeb(t, method, before, false)
			old := w.issue(t, "ann", 12)
			require.True(t, w.knows(old))
			if after.public != nil {
				w.put(t, w.cfg.JWT.PublicKey, after.public)
				w.clock.Advance(time.Second)
				require.True(t, w.knows(old))
				require.True(t, w.knows(w.issue(t, "ann", 12)), "half of a pair changes nothing")
			}
			w.put(t, w.cfg.JWT.PrivateKey, after.private)
			require.False(t, w.knows(signed(t, method, after.sign, good())), "not looked at twice in a second")
			w.clock.Advance(time.Second)
			require.True(t, w.knows(signed(t, method, after.sign, good())), "the new key verifies")
			require.True(t, w.knows(old), "and so does the old one")
			require.True(t, w.knows(signed(t, method, before.sign, good())))

			claims := good()
			claims["exp"] = epoch.Add(time.Hour).Unix()
			long := signed(t, method, before.sign, claims)
			require.True(t, w.knows(long))
			w.clock.Advance(55 * time.Second)
			require.True(t, w.knows(long))
			fresh := w.issue(t, "ann", 12)
			w.clock.Advance(10 * time.Second)
			require.False(t, w.knows(long), "a TTL later the old key is over, for remembered tokens too")
			require.True(t, w.knows(fresh), "issued with the new key")
			for _, text := range w.log.text {
				noSecret(t, text, after.private)
				noSecret(t, text, before.private)
			}
		})
	}
}

func TestWebTokenBrokenRotation(t *testing.T) {
	p := newPair(t, "ES256", 0)
	w := newWeb(t, "ES256", p, false)
	w.clock.Advance(time.Second)
	require.True(t, w.knows(signed(t, "ES256", p.sign, good())))
	require.Empty(t, w.log.text)
	w.put(t, w.cfg.JWT.PrivateKey, p.private[:len(p.private)/2])
	for range 5 {
		w.clock.Advance(time.Second)
		require.True(t, w.knows(w.issue(t, "ann", 12)), "the last key stays in use")
	}
	require.Len(t, w.log.text, 1, "said once")
	require.Contains(t, w.log.text[0], w.cfg.JWT.PrivateKey)
	noSecret(t, w.log.text[0], p.private)
	require.NoError(t, os.Remove(w.cfg.JWT.PrivateKey))
	w.clock.Advance(time.Second)
	require.True(t, w.knows(w.issue(t, "ann", 12)))
	require.Len(t, w.log.text, 2)
	w.put(t, w.cfg.JWT.PrivateKey, p.private)
	w.clock.Advance(time.Second)
	require.True(t, w.knows(w.issue(t, "ann", 12)))
	require.Len(t, w.log.text, 2, "the same key again is no change")
}

// TestWebTokenManyRotations: keys replaced faster than tokens end do not pile up.
func TestWebTokenManyRotations(t *testing.T) {
	first := newPair(t, "EdDSA", 0)
	w := newWeb(t, "EdDSA", first, false)
	oldest := w.issue(t, "ann", 12)
	last := oldest
	for i := range limits.TokenKeysRetired + 1 {
		require.True(t, w.knows(oldest), "after %d", i)
		next := newPair(t, "EdDSA", 0)
		w.put(t, w.cfg.JWT.PublicKey, next.public)
		w.put(t, w.cfg.JWT.PrivateKey, next.private)
		w.clock.Advance(time.Second)
		last = w.issue(t, "ann", 12)
	}
	require.False(t, w.knows(oldest))
	require.True(t, w.knows(last))
}

func TestWebTokenRace(t *testing.T) {
	keys := [2]pair{newPair(t, "EdDSA", 0), newPair(t, "EdDSA", 1)}
	w := newWeb(t, "EdDSA", keys[0], true)
	var wg sync.WaitGroup
	tokens := [2]string{signed(t, "EdDSA", keys[0].sign, good()), signed(t, "EdDSA", keys[1].sign, good())}
	for range 4 {
		wg.Go(func() {
			for range 200 {
				if !w.knows(tokens[0]) {
					t.Error("a token of the first key was refused")
				}
				w.knows(tokens[1])
			}
		})
	}
	for i := range 10 {
		w.put(t, w.cfg.JWT.PublicKey, keys[(i+1)%2].public)
		w.clock.Advance(time.Second)
	}
	wg.Wait()
}

// FuzzWebToken checks that nothing is accepted but what was signed.
func FuzzWebToken(f *testing.F) {
	p := newPair(f, "EdDSA", 0)
	w := newWeb(f, "EdDSA", p, false)
	real := signed(f, "EdDSA", p.sign, good())
	for _, seed := range []string{"", "..", real, signed(f, "HS256", p.public, good()), signed(f, "none", jwt.UnsafeAllowNoneSignatureType, good()), "eyJhbGciOiJFZERTQSJ9.e30."} {
		f.Add(seed)
	}
	signature := real[strings.LastIndexByte(real, '.'):]
	f.Fuzz(func(t *testing.T, token string) {
		if _, _, ok := w.Identify(token, 1); ok && token != real {
			// The last letter of the signature holds unused bits.
			if len(token) != len(real) || token[:len(token)-1] != real[:len(real)-1] {
				t.Fatalf("%q is accepted, signature %s", token, signature)
			}
		}
	})
}

func BenchmarkIdentifyWeb(b *testing.B) {
	p := newPair(b, "RS256", 0)
	w := newWeb(b, "RS256", p, false)
	token := w.issue(b, "ann", 12)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, _, ok := w.Identify(token, 1); !ok {
				b.Error("not known")
			}
		}
	})
}
