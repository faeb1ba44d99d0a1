package authn_test

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/authn"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/limits"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)

// member is one member's tokens, with what it has applied and the time in the test's hand.
type member struct {
	authn.Tokens
	clock   *clock.Manual
	applied atomic.Uint64
	warned  atomic.Int32
}

func newMember(t testing.TB, ttl time.Duration, limit int) *member {
	m := &member{clock: clock.NewManual(epoch)}
	tokens, err := authn.OpenTokens(authn.TokenConfig{Kind: authn.KindSimple, TTL: ttl, Clock: m.clock, Limit: limit,
		Applied: func() ids.Index { return ids.Index(m.applied.Load()) }, Warn: func(string, error) { m.warned.Add(1) }})
	require.NoError(t, err)
	t.Cleanup(func() { authn.CloseTokens(tokens) })
	m.Tokens = tokens
	return m
}

// login does what an applied Authenticate entry does on this member and its proposer.
func (m *member) login(t testing.TB, user string) string {
	prefix, err := m.Prefix()
	require.NoError(t, err)
	index := ids.Index(m.applied.Load() + 1)
	m.Assign(user, prefix, index)
	m.applied.Store(uint64(index))
	token, err := m.Issue(user, prefix, index, 7)
	require.NoError(t, err)
	return token
}

func (m *member) knows(token string) bool {
	id, wait, ok := m.Identify(token, 9)
	return ok && wait == 0 && id.User != "" && id.Revision == 9
}

func TestSimpleToken(t *testing.T) {
	m := newMember(t, 0, 0)
	m.applied.Store(41)
	token := m.login(t, "ann")
	require.Regexp(t, regexp.MustCompile(`^[a-zA-Z]{16}\.42$`), token)
	id, wait, ok := m.Identify(token, 9)
	require.True(t, ok)
	require.Zero(t, wait)
	require.Equal(t, authn.Identity{User: "ann", Revision: 9}, id, "at the View's revision")
	seen := map[string]bool{}
	for range 100 {
		p, err := m.Prefix()
		require.NoError(t, err)
		require.False(t, seen[p])
		seen[p] = true
	}
	require.Len(t, strings.Join(keysOf(seen), ""), 1600)
}

func keysOf(m map[string]bool) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	return out
}

func TestSimpleTokenRefused(t *testing.T) {
	m := newMember(t, 0, 0)
	token := m.login(t, "ann")
	for _, wrong := range []string{"", ".", "x", ".1", token[:17], token + ".1", token + "1x", "x" + token, strings.ToUpper(token),
		"abcdefghijklmnop.-1", "abcdefghijklmnop.+1", "abcdefghijklmnop.0x1", "abcdefghijklmnop.1_0", "abcdefghijklmnop.18446744073709551616",
		"abcdefghijklmnop.1", "abcdefghijklmnop.", "short.999"} {
		id, wait, ok := m.Identify(wrong, 9)
		require.False(t, ok, wrong)
		require.Zero(t, wait, wrong)
		require.Zero(t, id, wrong)
	}
	m.Assign("eve", "", 5)
	m.Assign("eve", "guess", 5)
	m.applied.Store(10)
	require.False(t, m.knows(".5"), "an entry of a member without such tokens makes none that can be guessed")
	require.False(t, m.knows("guess.5"))
}

// TestSimpleTokenNotYetApplied is a member behind the one that issued the token.
func TestSimpleTokenNotYetApplied(t *testing.T) {
	ahead, behind := newMember(t, 0, 0), newMember(t, 0, 0)
	ahead.applied.Store(99)
	behind.applied.Store(90)
	token := ahead.login(t, "ann")
	_, wait, ok := behind.Identify(token, 9)
	require.False(t, ok)
	require.Equal(t, ids.Index(100), wait)
	prefix, _, _ := strings.Cut(token, ".")
	behind.Assign("ann", prefix, 100)
	require.True(t, behind.knows(token), "known as soon as it is assigned")
	behind.applied.Store(100)
	require.True(t, behind.knows(token))
	require.False(t, behind.knows("abcdefghijklmnop.100"))

	_, wait, _ = behind.Identify(fmt.Sprint("abcdefghijklmnop.", 100+limits.SimpleTokenAhead), 9)
	require.NotZero(t, wait)
	_, wait, ok = behind.Identify(fmt.Sprint("abcdefghijklmnop.", 101+limits.SimpleTokenAhead), 9)
	require.False(t, ok)
	require.Zero(t, wait, "nobody waits for an index far from here")
}

func TestSimpleTokenExpires(t *testing.T) {
	m := newMember(t, 10*time.Second, 0)
	used, unused := m.login(t, "ann"), m.login(t, "ann")
	for range 5 {
		m.clock.Advance(9 * time.Second)
		require.True(t, m.knows(used), "extended on use")
	}
	require.False(t, m.knows(unused), "46 s unused")
	m.clock.Advance(10 * time.Second)
	require.True(t, m.knows(used), "not before its TTL")
	m.clock.Advance(11 * time.Second)
	require.False(t, m.knows(used), "not a second after it")
	require.False(t, m.knows(used))

	fresh := newMember(t, 0, 0)
	token := fresh.login(t, "ann")
	fresh.clock.Advance(300 * time.Second)
	require.True(t, fresh.knows(token), "the default")
	fresh.clock.Advance(301 * time.Second)
	require.False(t, fresh.knows(token))
}

func TestSimpleTokenInvalidate(t *testing.T) {
	m := newMember(t, 0, 0)
	ann1, ann2, bob := m.login(t, "ann"), m.login(t, "ann"), m.login(t, "bob")
	m.Invalidate("nobody")
	m.Invalidate("ann")
	require.False(t, m.knows(ann1) || m.knows(ann2))
	require.True(t, m.knows(bob))
	again := m.login(t, "ann")
	require.True(t, m.knows(again))
	m.Invalidate("")
	require.False(t, m.knows(again) || m.knows(bob))
	require.True(t, m.knows(m.login(t, "bob")))
	authn.CloseTokens(m.Tokens)
	authn.CloseTokens(m.Tokens)
	m.Assign("bob", "abcdefghijklmnop", 1)
	require.False(t, m.knows("abcdefghijklmnop.1"))
}

// TestSimpleTokenAssignedTwice: a token names its entry, so a second assignment says the same.
func TestSimpleTokenAssignedTwice(t *testing.T) {
	m := newMember(t, 0, 0)
	m.applied.Store(5)
	m.Assign("ann", "abcdefghijklmnop", 5)
	m.Assign("ann", "abcdefghijklmnop", 5)
	require.True(t, m.knows("abcdefghijklmnop.5"))
	m.Invalidate("ann")
	require.False(t, m.knows("abcdefghijklmnop.5"))
}

// TestSimpleTokensAreBounded: a user who logs in without end loses its own tokens, the least used first.
func TestSimpleTokensAreBounded(t *testing.T) {
	const limit = 64
	m := newMember(t, time.Hour, limit)
	var others []string
	for i := range 10 {
		others = append(others, m.login(t, fmt.Sprint("user", i)))
	}
	kept := m.login(t, "flood")
	var flood []string
	for range 5 * limit {
		m.clock.Advance(time.Second)
		require.True(t, m.knows(kept))
		flood = append(flood, m.login(t, "flood"))
		require.True(t, m.knows(flood[len(flood)-1]), "the newest is always there")
	}
	for _, token := range others {
		require.True(t, m.knows(token), "the tokens of others stay")
	}
	require.True(t, m.knows(kept), "and so does one in use")
	known := 0
	for _, token := range flood {
		if m.knows(token) {
			known++
		}
	}
	require.LessOrEqual(t, known+len(others)+1, limit)
	require.GreaterOrEqual(t, known, limit/2)
	require.False(t, m.knows(flood[0]))
	require.NotZero(t, m.warned.Load())
}

// TestSimpleTokensOfMoreUsersThanRoom: when every user has one token the one unused for longest goes.
func TestSimpleTokensOfMoreUsersThanRoom(t *testing.T) {
	m := newMember(t, 0, 4)
	var tokens []string
	for i := range 6 {
		m.clock.Advance(time.Second)
		tokens = append(tokens, m.login(t, fmt.Sprint("user", i)))
		require.True(t, m.knows(tokens[0]))
	}
	var known []bool
	for _, token := range tokens {
		known = append(known, m.knows(token))
	}
	require.Equal(t, []bool{true, false, false, true, true, true}, known)
}

func TestSimpleTokenRace(t *testing.T) {
	m := newMember(t, 10*time.Second, 200)
	var wg sync.WaitGroup
	var index atomic.Uint64
	for g := range 6 {
		wg.Go(func() {
			for i := range 300 {
				prefix, _ := m.Prefix()
				at, user := ids.Index(index.Add(1)), fmt.Sprint("u", (g+i)%5)
				m.Assign(user, prefix, at)
				token, _ := m.Issue(user, prefix, at, 1)
				if id, _, ok := m.Identify(token, 1); ok && id.User != user {
					t.Errorf("token of %s stands for %s", user, id.User)
				}
				switch {
				case i%50 == 0:
					m.Invalidate(user)
				case i%97 == 0:
					m.Invalidate("")
				case i%31 == 0:
					m.clock.Advance(time.Second)
				}
			}
		})
	}
	wg.Wait()
	m.Invalidate("")
	m.applied.Store(index.Load())
	require.True(t, m.knows(m.login(t, "last")))
}

func TestNoTokens(t *testing.T) {
	tokens, err := authn.OpenTokens(authn.TokenConfig{})
	require.NoError(t, err)
	_, err = tokens.Prefix()
	require.ErrorIs(t, err, fault.AuthFailed)
	_, err = tokens.Issue("ann", "", 1, 1)
	require.ErrorIs(t, err, fault.AuthFailed)
	tokens.Assign("ann", "abcdefghijklmnop", 1)
	tokens.Invalidate("")
	_, wait, ok := tokens.Identify("abcdefghijklmnop.1", 1)
	require.False(t, ok)
	require.Zero(t, wait)
	authn.CloseTokens(tokens)

	_, err = authn.OpenTokens(authn.TokenConfig{Kind: "basic"})
	require.ErrorContains(t, err, `"basic"`)
}

func TestFingerprint(t *testing.T) {
	require.Regexp(t, `^[0-9a-f]{12}$`, authn.Fingerprint("abcdefghijklmnop.1"))
	require.NotEqual(t, authn.Fingerprint("a"), authn.Fingerprint("b"))
}

// FuzzSimpleToken checks that nothing but the assigned token is accepted, and that only well-formed ones are waited for.
func FuzzSimpleToken(f *testing.F) {
	m := newMember(f, 0, 0)
	m.applied.Store(10)
	real := m.login(f, "ann")
	for _, seed := range []string{"", ".", real, "abcdefghijklmnop.12", "abcdefghijklmnop.18446744073709551615", "a.b.c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		id, wait, ok := m.Identify(token, 1)
		if ok != (token == real) || ok != (id != authn.Identity{}) {
			t.Fatalf("%q: %v", token, ok)
		}
		if wait != 0 && (ok || wait <= 11 || !strings.Contains(token, ".")) {
			t.Fatalf("%q: wait for %d", token, wait)
		}
	})
}

func BenchmarkIdentifySimple(b *testing.B) {
	tokens, err := authn.OpenTokens(authn.TokenConfig{Kind: authn.KindSimple, Clock: clock.Real(), Applied: func() ids.Index { return 9 }})
	require.NoError(b, err)
	defer authn.CloseTokens(tokens)
	tokens.Assign("ann", "abcdefghijklmnop", 9)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, _, ok := tokens.Identify("abcdefghijklmnop.9", 1); !ok {
				b.Error("not known")
			}
		}
	})
}
