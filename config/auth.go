package config

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The kinds of tokens of --auth-token.
const (
	TokenSimple = "simple"
	TokenJWT    = "jwt"
	TokenNone   = "" // clients are known by their certificates alone
)

// Auth holds the settings of authentication.
type Auth struct {
	Token           string // as given: see ParseToken
	BcryptCost      uint64 // of new passwords, 4 to 31; the usual 10 is taken for anything else
	TokenTTLSeconds uint64 // of simple tokens since their last use; 0 is the usual 300
}

// TokenKind is --auth-token understood.
type TokenKind struct {
	Kind                  string        // TokenSimple, TokenJWT or TokenNone
	PublicKey, PrivateKey string        // TokenJWT: files, "" for none
	Method                string        // TokenJWT: how tokens are signed, such as RS256
	TTL                   time.Duration // TokenJWT: life of a token; 0 for the usual time
}

// ParseToken understands --auth-token: simple, an empty text for none, or jwt followed by ,name=value for each of pub-key,
// priv-key, sign-method and ttl. Errors name the part that is wrong. Files are not looked at.
func (a *Auth) ParseToken() (TokenKind, error) {
	kind, options, _ := strings.Cut(a.Token, ",")
	t := TokenKind{Kind: kind}
	fail := func(format string, args ...any) (TokenKind, error) {
		return TokenKind{}, fmt.Errorf("--auth-token %q: "+format, append([]any{a.Token}, args...)...)
	}
	if !slices.Contains([]string{TokenSimple, TokenJWT, TokenNone}, kind) {
		return fail("kind %q is unknown: use simple or jwt", kind)
	}
	seen := map[string]bool{}
	for option := range strings.SplitSeq(options, ",") {
		if option == "" && options == "" {
			break
		}
		name, value, ok := strings.Cut(option, "=")
		if !ok || strings.Contains(value, "=") || seen[name] {
			return fail("%q is not an option: write each once as name=value", option)
		}
		seen[name] = true
		switch name {
		case "pub-key":
			t.PublicKey = value
		case "priv-key":
			t.PrivateKey = value
		case "sign-method":
			t.Method = value
		case "ttl":
			ttl, err := time.ParseDuration(value)
			if err != nil || ttl <= 0 {
				return fail("ttl %q is not a time: write it as 5m", value)
			}
			t.TTL = ttl
		default:
			return fail("option %q is unknown: use pub-key, priv-key, sign-method and ttl", name)
		}
	}
	if kind == TokenJWT && t.Method == "" {
		return fail("sign-method is missing: give the one that the keys are for, such as sign-method=RS256")
	}
	if kind == TokenJWT && t.PublicKey == "" && t.PrivateKey == "" {
		return fail("there is no key: give priv-key=FILE to issue tokens, or pub-key=FILE to recognise those that others issue")
	}
	return t, nil
}
