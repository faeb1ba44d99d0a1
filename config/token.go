package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"quorate.dev/quorate/limits"
)

// The kinds of tokens.
const (
	TokenSimple = "simple"
	TokenJWT    = "jwt"
	TokenNone   = "" // only certificates say who a client is
)

// The bounds of the settings of authentication.
const (
	bcryptCostMin   = 4
	bcryptCostMax   = 31
	tokenTTLMax     = limits.LeaseTTLSecondsMax
	tokenTTLDefault = 300
	webTokenTTL     = 5 * time.Minute
)

// signMethods are the names of the signatures of JSON web tokens.
var signMethods = []string{"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// Tokens is the parsed auth-token.
type Tokens struct {
	Kind    string        // TokenSimple, TokenJWT or TokenNone
	TTL     time.Duration // of a simple token since its last use, of a JWT from its issue
	Method  string        // of a JWT's signature, such as RS256
	Public  string        // PEM file of the key that verifies, "" for none
	Private string        // PEM file of the key that signs, of the HS methods the secret; "" for none
	Ignored []string      // options that mean nothing, as etcd ignores them too
}

// Tokens parses auth-token: a kind, then key=value options, all separated by commas.
func (c *Config) Tokens() (Tokens, error) {
	bad := func(format string, args ...any) (Tokens, error) {
		return Tokens{}, fmt.Errorf("--auth-token %q: "+format, append([]any{c.Auth.Token}, args...)...)
	}
	parts := strings.Split(c.Auth.Token, ",")
	t := Tokens{Kind: parts[0]}
	options := map[string]string{}
	for _, part := range parts[1:] {
		pair := strings.Split(part, "=")
		if len(pair) != 2 {
			return bad("%q is not an option of the form key=value", part)
		}
		if _, twice := options[pair[0]]; twice {
			return bad("the option %s is given twice", pair[0])
		}
		options[pair[0]] = pair[1]
	}
	switch t.Kind {
	case TokenSimple, TokenNone:
		t.TTL = time.Duration(c.Auth.TokenTTL) * time.Second
		if c.Auth.TokenTTL == 0 {
			t.TTL = tokenTTLDefault * time.Second
		}
	case TokenJWT:
		if err := t.web(options); err != nil {
			return bad("%w", err)
		}
	default:
		return bad("%q is an unknown kind of token: use simple or jwt", t.Kind)
	}
	for key := range options {
		t.Ignored = append(t.Ignored, key)
	}
	slices.Sort(t.Ignored)
	return t, nil
}

// web takes the options of JSON web tokens out of the map.
func (t *Tokens) web(options map[string]string) (err error) {
	take := func(key string) string {
		value := options[key]
		delete(options, key)
		return value
	}
	t.Method, t.Public, t.Private, t.TTL = take("sign-method"), take("pub-key"), take("priv-key"), webTokenTTL
	if ttl := take("ttl"); ttl != "" {
		if t.TTL, err = time.ParseDuration(ttl); err != nil || t.TTL <= 0 {
			return fmt.Errorf("ttl %q is not a time above 0 such as 5m", ttl)
		}
	}
	switch {
	case !slices.Contains(signMethods, t.Method):
		return fmt.Errorf("sign-method %q is unknown: use one of %s", t.Method, quoted(signMethods))
	case strings.HasPrefix(t.Method, "HS") && t.Private == "":
		return fmt.Errorf("%s needs the file of its secret as priv-key", t.Method)
	case t.Public == "" && t.Private == "":
		return errors.New("use priv-key to issue tokens, or pub-key to only verify those made elsewhere")
	}
	return nil
}

func (c *Config) checkAuth() error {
	if cost := c.Auth.BcryptCost; cost < bcryptCostMin || cost > bcryptCostMax {
		return fmt.Errorf("--bcrypt-cost %d is out of range: use %d to %d", cost, bcryptCostMin, bcryptCostMax)
	}
	if ttl := c.Auth.TokenTTL; ttl > tokenTTLMax {
		return fmt.Errorf("--auth-token-ttl %d is out of range: use at most %d seconds", ttl, tokenTTLMax)
	}
	_, err := c.Tokens()
	return err
}

func (l *loader) noteTokens() {
	if t, err := l.config.Tokens(); err == nil && len(t.Ignored) > 0 {
		l.note(true, "unknown options of --auth-token are ignored", [2]string{"keys", strings.Join(t.Ignored, ",")})
	}
}
