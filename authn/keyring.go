package authn

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/limits"
)

// keyring holds the keys of JSON web tokens and reads them again when their files change. The files are looked at on use, at
// most once in limits.TokenKeyPoll. A file that cannot be used is warned of and the keys stay as they are.
//
// A replaced key verifies for one TTL more, the longest that a token which it signed here can live. So members whose files
// change one after another understand each other's tokens as long as all of them change within a TTL, the new public key first.
type keyring struct {
	method  jwt.SigningMethod
	public  string
	private string
	ttl     time.Duration
	clock   clock.Clock
	warn    func(string, error)

	keys atomic.Pointer[keyset]
	next atomic.Int64 // when to look again, in time since start

	start   time.Time
	mu      sync.Mutex // held while files are looked at
	stamps  [2]stamp
	settled bool   // the last look found nothing new
	warned  string // the last warning, not to be repeated every second
}

// keyset is what verifies and signs at one time; it is never changed.
type keyset struct {
	sign   any          // nil when only the public key is there
	verify []*verifyKey // the one in use, then those that were replaced, the youngest first
}

type verifyKey struct {
	key  any
	ends atomic.Pointer[time.Time] // nil while in use
}

func (k *verifyKey) over(now time.Time) bool {
	ends := k.ends.Load()
	return ends != nil && !now.Before(*ends)
}

// stamp tells whether a file may have changed.
type stamp struct {
	modified time.Time
	size     int64
	there    bool
}

func stampOf(name string) stamp {
	if name == "" {
		return stamp{}
	}
	info, err := os.Stat(name)
	if err != nil {
		return stamp{}
	}
	return stamp{info.ModTime(), info.Size(), true}
}

func openKeyring(method jwt.SigningMethod, cfg TokenConfig) (*keyring, error) {
	r := &keyring{method: method, public: cfg.JWT.PublicKey, private: cfg.JWT.PrivateKey, ttl: cfg.JWT.TTL,
		clock: cfg.Clock, start: cfg.Clock.Now(), warn: cfg.Warn}
	r.next.Store(int64(limits.TokenKeyPoll))
	r.stamps = r.look()
	signer, verifier, err := r.load()
	if err != nil {
		return nil, err
	}
	r.keys.Store(&keyset{sign: signer, verify: []*verifyKey{{key: verifier}}})
	return r, nil
}

func (r *keyring) look() [2]stamp { return [2]stamp{stampOf(r.public), stampOf(r.private)} }

// current returns the keys, after a look at the files when it is time for one. While one goroutine looks the others go on.
func (r *keyring) current() *keyset {
	now, next := int64(r.clock.Now().Sub(r.start)), r.next.Load()
	if now >= next && r.next.CompareAndSwap(next, now+int64(limits.TokenKeyPoll)) {
		r.poll()
	}
	return r.keys.Load()
}

func (r *keyring) poll() {
	if !r.mu.TryLock() {
		return // somebody is held up by the file system: the others are not to wait for it too
	}
	defer r.mu.Unlock()
	stamps := r.look()
	changed := stamps != r.stamps
	if r.settled && !changed {
		return
	}
	// After a change comes another reading, for a file that was written again at once, within what its time can tell.
	r.settled, r.stamps = !changed, stamps
	signer, verifier, err := r.load()
	if err != nil {
		r.settled = false
		if r.warned != err.Error() {
			r.warned = err.Error()
			r.warn("cannot use the changed keys of JSON web tokens, the last ones stay in use", err)
		}
		return
	}
	r.warned = ""
	r.replace(signer, verifier)
}

func (r *keyring) replace(signer, verifier any) {
	old := r.keys.Load()
	if equalKeys(old.verify[0].key, verifier) {
		r.keys.Store(&keyset{sign: signer, verify: old.verify})
		return
	}
	now := r.clock.Now()
	ends := now.Add(r.ttl)
	keys := []*verifyKey{{key: verifier}}
	for _, k := range old.verify {
		k.ends.CompareAndSwap(nil, &ends)
		if !k.over(now) && len(keys) <= limits.TokenKeysRetired {
			keys = append(keys, k)
		} else {
			k.ends.Store(&now)
		}
	}
	r.keys.Store(&keyset{sign: signer, verify: keys})
	r.warn("the keys of JSON web tokens have changed; the last one verifies for "+r.ttl.String()+" more", nil)
}

// load reads the keys; signer is nil when there is only a public one.
func (r *keyring) load() (signer, verifier any, err error) {
	public, err := readKey("pub-key", r.public)
	if err != nil {
		return nil, nil, err
	}
	private, err := readKey("priv-key", r.private)
	if err != nil {
		return nil, nil, err
	}
	if _, shared := r.method.(*jwt.SigningMethodHMAC); shared {
		if len(private) == 0 {
			return nil, nil, fmt.Errorf("%s needs the file of its secret as priv-key", r.method.Alg())
		}
		return private, private, nil
	}
	if len(private) == 0 && len(public) == 0 {
		return nil, nil, fmt.Errorf("%s needs a pub-key to verify, or a priv-key to issue tokens too", r.method.Alg())
	}
	if len(public) > 0 {
		if verifier, err = parsePublic(r.method, public); err != nil {
			return nil, nil, fmt.Errorf("pub-key %s is no public key for %s: %w", r.public, r.method.Alg(), err)
		}
	}
	if len(private) == 0 {
		return nil, verifier, nil
	}
	key, err := parsePrivate(r.method, private)
	if err != nil {
		return nil, nil, fmt.Errorf("priv-key %s is no private key for %s: %w", r.private, r.method.Alg(), err)
	}
	if verifier != nil && !equalKeys(verifier, key.Public()) {
		return nil, nil, fmt.Errorf("public and private keys don't match: %s and %s", r.public, r.private)
	}
	if _, err := sign(r.method, key, jwt.MapClaims{}); err != nil {
		return nil, nil, fmt.Errorf("priv-key %s cannot sign with %s: %w", r.private, r.method.Alg(), err)
	}
	return key, key.Public(), nil
}

func readKey(option, name string) ([]byte, error) {
	if name == "" {
		return nil, nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("%s of JSON web tokens: %w", option, err)
	}
	return text, nil
}

var errCurve = errors.New("its curve is of another size")

func parsePublic(method jwt.SigningMethod, text []byte) (any, error) {
	switch m := method.(type) {
	case *jwt.SigningMethodECDSA:
		k, err := jwt.ParseECPublicKeyFromPEM(text)
		if err == nil && k.Curve.Params().BitSize != m.CurveBits {
			err = errCurve
		}
		return k, err
	case *jwt.SigningMethodEd25519:
		return jwt.ParseEdPublicKeyFromPEM(text)
	}
	return jwt.ParseRSAPublicKeyFromPEM(text)
}

func parsePrivate(method jwt.SigningMethod, text []byte) (crypto.Signer, error) {
	switch m := method.(type) {
	case *jwt.SigningMethodECDSA:
		k, err := jwt.ParseECPrivateKeyFromPEM(text)
		if err == nil && k.Curve.Params().BitSize != m.CurveBits {
			err = errCurve
		}
		return k, err
	case *jwt.SigningMethodEd25519:
		k, err := jwt.ParseEdPrivateKeyFromPEM(text)
		if err != nil {
			return nil, err
		}
		return k.(ed25519.PrivateKey), nil
	}
	return jwt.ParseRSAPrivateKeyFromPEM(text)
}

func equalKeys(a, b any) bool {
	switch a := a.(type) {
	case []byte:
		other, ok := b.([]byte)
		return ok && bytes.Equal(a, other)
	case *rsa.PublicKey:
		return a.Equal(b)
	case *ecdsa.PublicKey:
		return a.Equal(b)
	case ed25519.PublicKey:
		return a.Equal(b)
	}
	return false
}
