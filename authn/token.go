package authn

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
)

// Identity is who a request is from. User "" is nobody.
type Identity struct {
	User     string
	Revision uint64 // the auth revision at which this was proved
}

// The kinds of tokens.
const (
	KindSimple = "simple"
	KindJWT    = "jwt"
	KindNone   = "" // no tokens: only certificates say who somebody is
)

// TokenConfig says what tokens a member issues and recognises.
type TokenConfig struct {
	Kind    string              // KindSimple, KindJWT or KindNone
	TTL     time.Duration       // life of a simple token since its last use; 0 means 300 s
	JWT     JWTConfig           // of KindJWT
	Clock   clock.Clock         // required
	Applied func() ids.Index    // the last applied index; required for KindSimple
	Warn    func(string, error) // what the operator should read; nil drops it
	Limit   int                 // simple tokens held at once; 0 means limits.SimpleTokens
}

// JWTConfig says how JSON web tokens are signed and verified.
type JWTConfig struct {
	PublicKey  string        // PEM file, "" for none
	PrivateKey string        // PEM file, of the HS methods the secret itself; "" for none, then tokens are verified and not issued
	Method     string        // such as RS256; HS, RS, PS and ES with 256, 384 or 512, or EdDSA
	TTL        time.Duration // life of a token; 0 means 5 minutes
}

// Tokens issues and recognises tokens. It is safe for concurrent use, and none of its methods waits for anything but, at
// most once a second, a look at the key files.
type Tokens interface {
	// Prefix is the simple_token of an Authenticate entry: random letters, or "" where tokens need no word in the log. An
	// error says that no token can be issued: fault.TokenVerifyOnly, or fault.AuthFailed where there are none.
	Prefix() (string, error)
	// Issue makes the token that answers Authenticate, once its entry is applied at index, when the auth revision of the
	// View then published is revision. Only an error of the signature is returned.
	Issue(user, prefix string, index ids.Index, revision uint64) (string, error)
	// Assign makes the token of an applied Authenticate entry known. Every member does it for every such entry, before it
	// publishes the index.
	Assign(user, prefix string, index ids.Index)
	// Invalidate ends the simple tokens of a user, those of all users for "", before the View is published that asks for it.
	// A JWT ends with its revision and its time.
	Invalidate(user string)
	// Identify says whom a token stands for. Not ok with a wait above 0: this member has not applied that index, at which
	// the token may be assigned; ask again then, and give up with the request.
	Identify(token string, revision uint64) (id Identity, wait ids.Index, ok bool)
}

// OpenTokens makes the tokens of a configuration. An error names the setting or file that is wrong. CloseTokens ends them.
func OpenTokens(cfg TokenConfig) (Tokens, error) {
	if cfg.Warn == nil {
		cfg.Warn = func(string, error) {}
	}
	switch cfg.Kind {
	case KindSimple:
		return openSimple(cfg), nil
	case KindJWT:
		return openJWT(cfg)
	case KindNone:
		return none{}, nil
	}
	return nil, fmt.Errorf("unknown kind of token %q: use %s or %s", cfg.Kind, KindSimple, KindJWT)
}

// CloseTokens ends what runs for them. They recognise nobody afterwards.
func CloseTokens(t Tokens) {
	if c, ok := t.(interface{ close() }); ok {
		c.close()
	}
}

// Fingerprint names a token, or another secret that is long and random, in logs without giving it away.
func Fingerprint(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])[:12]
}

// prefixLetters is the length of a simple token's random part: 16 of 52 letters are 91 bits.
const prefixLetters = 16

// randomPrefix draws letters. Bytes that would make some letters likelier than others are drawn again.
func randomPrefix() string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	const fair = 256 / len(letters) * len(letters)
	out := make([]byte, 0, prefixLetters)
	var random [2 * prefixLetters]byte
	for {
		_, _ = rand.Read(random[:]) // never fails, it ends the process instead
		for _, b := range random {
			if int(b) < fair {
				out = append(out, letters[int(b)%len(letters)])
			}
			if len(out) == prefixLetters {
				return string(out)
			}
		}
	}
}

// none is for a store that knows its clients by certificates alone.
type none struct{}

func (none) Prefix() (string, error)                                 { return "", fault.AuthFailed }
func (none) Issue(string, string, ids.Index, uint64) (string, error) { return "", fault.AuthFailed }
func (none) Assign(string, string, ids.Index)                        {}
func (none) Invalidate(string)                                       {}
func (none) Identify(string, uint64) (Identity, ids.Index, bool)     { return Identity{}, 0, false }
