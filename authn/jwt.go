package authn

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/limits"
)

const jwtTTL = 5 * time.Minute

// webMethods are the methods of signature that may be configured. "none" is not among them.
var webMethods = []jwt.SigningMethod{
	jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512,
	jwt.SigningMethodRS256, jwt.SigningMethodRS384, jwt.SigningMethodRS512,
	jwt.SigningMethodPS256, jwt.SigningMethodPS384, jwt.SigningMethodPS512,
	jwt.SigningMethodES256, jwt.SigningMethodES384, jwt.SigningMethodES512,
	jwt.SigningMethodEdDSA,
}

// web holds what JSON web tokens need: a key ring, and the tokens already found valid.
type web struct {
	clock  clock.Clock
	method jwt.SigningMethod
	ttl    time.Duration
	ring   *keyring
	parser *jwt.Parser
	seen   verified
}

func openJWT(cfg TokenConfig) (*web, error) {
	i := slices.IndexFunc(webMethods, func(m jwt.SigningMethod) bool { return m.Alg() == cfg.JWT.Method })
	if i < 0 {
		return nil, fmt.Errorf("sign-method %q of JSON web tokens is unknown: use HS, RS, PS or ES with 256, 384 or 512 (such as RS256), or EdDSA",
			cfg.JWT.Method)
	}
	if cfg.JWT.TTL == 0 {
		cfg.JWT.TTL = jwtTTL
	}
	if cfg.JWT.TTL < 0 {
		return nil, fmt.Errorf("ttl %s of JSON web tokens is negative: use a time such as 5m", cfg.JWT.TTL)
	}
	w := &web{clock: cfg.Clock, method: webMethods[i], ttl: cfg.JWT.TTL}
	w.parser = jwt.NewParser(jwt.WithValidMethods([]string{w.method.Alg()}), jwt.WithTimeFunc(w.clock.Now), jwt.WithExpirationRequired())
	ring, err := openKeyring(w.method, cfg)
	w.ring = ring
	return w, err
}

// Prefix implements Tokens.
func (w *web) Prefix() (string, error) {
	if w.ring.current().sign == nil {
		return "", fault.TokenVerifyOnly
	}
	return "", nil
}

// Issue implements Tokens.
func (w *web) Issue(user, _ string, _ ids.Index, revision uint64) (string, error) {
	keys := w.ring.current()
	if keys.sign == nil {
		return "", fault.TokenVerifyOnly
	}
	return sign(w.method, keys.sign, jwt.MapClaims{"username": user, "revision": revision, "exp": w.clock.Now().Add(w.ttl).Unix()})
}

func sign(method jwt.SigningMethod, key any, claims jwt.MapClaims) (string, error) {
	return jwt.NewWithClaims(method, claims).SignedString(key)
}

// Assign implements Tokens: a JWT says itself whose it is.
func (w *web) Assign(string, string, ids.Index) {}

// Invalidate implements Tokens: whatever would end a token also raises the auth revision, and the token's is then too old.
func (w *web) Invalidate(string) {}

// Identify implements Tokens. The revision is the token's own.
func (w *web) Identify(token string, _ uint64) (Identity, ids.Index, bool) {
	if len(token) > limits.TokenBytes {
		return Identity{}, 0, false
	}
	keys, now, sum := w.ring.current(), w.clock.Now(), digest(sha256.Sum256([]byte(token)))
	c, ok := w.seen.get(sum)
	if !ok || !c.valid(now) {
		if c, ok = w.verify(token, keys, now); !ok {
			return Identity{}, 0, false
		}
		w.seen.put(sum, c)
	}
	return c.id, 0, true
}

// verify tries the key in use and then those that it replaced. Why a token is not valid is nobody's business: the answer to
// its sender is one and the same.
func (w *web) verify(token string, keys *keyset, now time.Time) (claim, bool) {
	for _, k := range keys.verify {
		if k.over(now) {
			continue
		}
		t, err := w.parser.Parse(token, func(t *jwt.Token) (any, error) {
			if t.Method.Alg() != w.method.Alg() { // the parser looked already; a mistake here would be too costly
				return nil, jwt.ErrTokenSignatureInvalid
			}
			return k.key, nil
		})
		if err == nil && t.Valid {
			return claimOf(t, k)
		}
	}
	return claim{}, false
}

// claim is what a verified token says.
type claim struct {
	id   Identity
	ends time.Time
	key  *verifyKey
}

func (c claim) valid(now time.Time) bool { return now.Before(c.ends) && !c.key.over(now) }

func claimOf(t *jwt.Token, k *verifyKey) (claim, bool) {
	claims, ok := t.Claims.(jwt.MapClaims)
	if !ok {
		return claim{}, false
	}
	user, named := claims["username"].(string)
	revision, counted := claims["revision"].(float64)
	ends, err := claims.GetExpirationTime()
	if !named || !counted || err != nil || ends == nil || revision < 0 || revision >= 1<<63 {
		return claim{}, false
	}
	return claim{Identity{user, uint64(revision)}, ends.Time, k}, true
}

// verified remembers valid tokens by their digests, in two generations: when the younger one is full the older one goes.
// What is used comes back into the younger one.
type verified struct {
	mu         sync.RWMutex
	young, old map[digest]claim
}

func (v *verified) get(sum digest) (claim, bool) {
	v.mu.RLock()
	c, ok := v.young[sum]
	late := false
	if !ok {
		c, late = v.old[sum]
	}
	v.mu.RUnlock()
	if late {
		v.put(sum, c)
	}
	return c, ok || late
}

func (v *verified) put(sum digest, c claim) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.young) >= limits.TokensVerified/2 || v.young == nil {
		v.young, v.old = map[digest]claim{}, v.young
	}
	v.young[sum] = c
}
