package config

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestTokens pairs a text of auth-token with what it means or why it is refused.
func TestTokens(t *testing.T) {
	const methods = "HS256 HS384 HS512 RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA"
	for _, c := range []struct{ text, want string }{
		{"simple", "{simple 7s    []}"},
		{"simple,a=b", "{simple 7s    [a]}"},
		{"", "{ 7s    []}"},
		{"jwt,sign-method=RS256,pub-key=p", "{jwt 5m0s RS256 p  []}"},
		{"jwt,sign-method=RS256,priv-key=k", "{jwt 5m0s RS256  k []}"},
		{"jwt,pub-key=p,priv-key=k,sign-method=ES512,ttl=10m", "{jwt 10m0s ES512 p k []}"},
		{"jwt,pub-key=p,sign-method=EdDSA,ttl=,z=1,y=", "{jwt 5m0s EdDSA p  [y z]}"},
		{"jwt,priv-key=k,sign-method=HS256,ttl=1ns", "{jwt 1ns HS256  k []}"},
		{"basic", `unknown kind`},
		{"JWT", `unknown kind`},
		{"jwt", `sign-method ""`},
		{"jwt,pub-key=p,sign-method=none", `sign-method "none"`},
		{"jwt,pub-key=p,sign-method=rs256", `sign-method "rs256"`},
		{"jwt,sign-method=HS256,pub-key=p", "HS256 needs the file of its secret"},
		{"jwt,sign-method=PS256", "use priv-key to issue"},
		{"jwt,sign-method=PS256,pub-key=", "use priv-key to issue"},
		{"jwt,sign-method=RS256,pub-key=a=b", `"pub-key=a=b" is not an option`},
		{"jwt,sign-method", `"sign-method" is not an option`},
		{"jwt,", `"" is not an option`},
		{"simple,a", `"a" is not an option`},
		{"jwt,sign-method=RS256,pub-key=p,pub-key=q", "pub-key is given twice"},
		{"jwt,sign-method=RS256,pub-key=p,ttl=5", `ttl "5"`},
		{"jwt,sign-method=RS256,pub-key=p,ttl=-1m", `ttl "-1m"`},
		{"jwt,sign-method=RS256,pub-key=p,ttl=0s", `ttl "0s"`},
	} {
		config := New()
		config.Auth.Token, config.Auth.TokenTTL = c.text, 7
		got, err := config.Tokens()
		if err != nil {
			if !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), fmt.Sprintf("--auth-token %q: ", c.text)) {
				t.Errorf("%q: %v, want %s", c.text, err, c.want)
			}
		} else if fmt.Sprint(got) != c.want {
			t.Errorf("%q: %v, want %s", c.text, got, c.want)
		}
	}
	for _, m := range strings.Fields(methods) {
		config := New()
		config.Auth.Token = "jwt,priv-key=k,sign-method=" + m
		if got, err := config.Tokens(); err != nil || got.Method != m {
			t.Errorf("%s: %v", m, err)
		}
	}
	config := New()
	if got, err := config.Tokens(); err != nil || got.TTL != 300*time.Second || config.Auth.BcryptCost != 10 {
		t.Errorf("default: %v %v", got, err)
	}
	config.Auth.TokenTTL = 0
	if got, _ := config.Tokens(); got.TTL != 300*time.Second {
		t.Errorf("0 is not the default: %v", got)
	}
}

// FuzzTokens checks that no text panics, and that what is accepted can be used.
func FuzzTokens(f *testing.F) {
	for _, seed := range []string{"", "simple", "jwt,sign-method=RS256,pub-key=p,ttl=5m", "jwt,,=,a=b=c", "simple,=", "jwt,ttl=1h,ttl=2h"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := New()
		c.Auth.Token = text
		got, err := c.Tokens()
		switch {
		case err != nil:
			return
		case got.TTL <= 0 || got.Kind != strings.Split(text, ",")[0]:
			t.Fatalf("%q: %+v", text, got)
		case got.Kind == TokenJWT && (got.Method == "" || got.Public+got.Private == ""):
			t.Fatalf("%q: %+v", text, got)
		}
	})
}
