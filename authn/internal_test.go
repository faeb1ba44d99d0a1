package authn

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/limits"
)

// TestDecoy checks that a comparison with the hash of no user does the work of its cost: bcrypt finds it well-formed and
// answers that the password is another one.
func TestDecoy(t *testing.T) {
	for _, cost := range []int{CostMin, CostDefault, CostMax} {
		got, err := bcrypt.Cost(decoy(cost))
		require.NoError(t, err)
		require.Equal(t, cost, got)
	}
	for range 20 {
		require.ErrorIs(t, bcrypt.CompareHashAndPassword(decoy(CostMin), []byte("x")), bcrypt.ErrMismatchedHashAndPassword)
	}
	require.NotEqual(t, decoy(CostMin), decoy(CostMin))
}

// TestSameCost checks that nobody is refused without the comparison that a user's own password takes.
func TestSameCost(t *testing.T) {
	v, err := NewVerifier(7, 1)
	require.NoError(t, err)
	costs := make(chan int, 1)
	v.same = func(hash, _ []byte) error {
		cost, err := bcrypt.Cost(hash)
		require.NoError(t, err)
		costs <- cost
		return bcrypt.ErrMismatchedHashAndPassword
	}
	for _, a := range []Account{{Name: "nobody"}, {Name: "nobody", Hash: []byte("old")}, {Name: "broken", Known: true}, {Name: "broken", Known: true, Hash: []byte("x")}} {
		got := make(chan error, 1)
		v.Check(a, "p", func(err error) { got <- err })
		require.ErrorIs(t, <-got, fault.AuthFailed)
		require.Equal(t, 7, <-costs)
	}
}

// TestCloseAnswersWhatIsUnderWay: nobody waits for a computation after Close, and nobody is answered twice.
func TestCloseAnswersWhatIsUnderWay(t *testing.T) {
	p := newPool(1)
	started, release := make(chan struct{}), make(chan struct{})
	got := make(chan error, 4)
	p.add(&job{work: func() error { close(started); <-release; return nil }}, func(err error) { got <- err })
	<-started
	p.close()
	require.ErrorIs(t, <-got, fault.Stopped)
	close(release)
	idle := func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.running == 0 }
	require.Eventually(t, idle, 2*time.Minute, time.Millisecond)
	require.Empty(t, got)
}

func TestCredentialKeysAreUnambiguous(t *testing.T) {
	c := newCredentials(3)
	seen := map[digest]bool{}
	for _, k := range [][3]string{{"ab", "c", "d"}, {"a", "bc", "d"}, {"", "abc", "d"}, {"abcd", "", ""}, {"", "abcd", ""}, {"", "", "abcd"}, {"a", "b", "cd"}} {
		d := c.key(k[0], []byte(k[1]), k[2])
		require.Equal(t, d, c.key(k[0], []byte(k[1]), k[2]))
		require.False(t, seen[d], "%q", k)
		seen[d] = true
	}
}

func TestCredentialsAreBounded(t *testing.T) {
	c := newCredentials(3)
	keys := make([]digest, 5)
	for i := range keys {
		keys[i] = c.key("u", []byte{byte(i)}, "p")
	}
	for _, k := range keys[:3] {
		c.put(k, "u")
		c.put(k, "u")
	}
	require.True(t, c.has(keys[0]))
	c.put(keys[3], "u")
	require.False(t, c.has(keys[1]), "the least recently used one goes")
	require.True(t, c.has(keys[0]) && c.has(keys[2]) && c.has(keys[3]))
	require.Len(t, c.held, 3)
	require.NotEqual(t, keys[0], newCredentials(3).key("u", []byte{0}, "p"), "the key is of one process")
}

// TestSweep checks that expired tokens give back their memory although nobody asks for them.
func TestSweep(t *testing.T) {
	m := clock.NewManual(time.Unix(1000, 0))
	s := openSimple(TokenConfig{TTL: 10 * time.Second, Clock: m, Applied: func() ids.Index { return 0 }})
	defer s.close()
	held := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		n := 0
		s.live.Range(func(any, any) bool { n++; return true })
		require.Equal(t, n, s.count)
		return n
	}
	for i := range 50 {
		s.Assign(fmt.Sprint("user", i%7), "abcdefghijklmnop", ids.Index(i))
	}
	require.Equal(t, 50, held())
	m.Advance(8 * time.Second)
	_, _, ok := s.Identify("abcdefghijklmnop.3", 1)
	require.True(t, ok)
	m.Advance(5 * time.Second)
	require.Eventually(t, func() bool { return held() == 1 }, 2*time.Minute, time.Millisecond)
	require.Len(t, s.users, 1)
	m.Advance(20 * time.Second)
	require.Eventually(t, func() bool { return held() == 0 }, 2*time.Minute, time.Millisecond)
	require.Empty(t, s.users)
}

func TestVerifiedTokensAreBounded(t *testing.T) {
	var v verified
	at := func(i int) string { return fmt.Sprint(i) }
	for i := range 3 * limits.TokensVerified {
		v.put(at(i), claim{})
		_, ok := v.get(at(0))
		require.True(t, ok, "what is used stays")
	}
	require.LessOrEqual(t, len(v.young)+len(v.old), limits.TokensVerified)
	_, ok := v.get(at(3*limits.TokensVerified - 1))
	require.True(t, ok)
	_, ok = v.get(at(1))
	require.False(t, ok)
	long := strings.Repeat("x", limits.TokenVerifiedBytes+1)
	v.put(long, claim{})
	_, ok = v.get(long)
	require.False(t, ok, "memory is bounded in bytes too")
}

func TestIssuedTokensAreBounded(t *testing.T) {
	var m issued
	keys, others := &keyset{}, &keyset{}
	for i := range 3 * limits.TokensIssued {
		is := issue{fmt.Sprint(i), 1, 2}
		m.put(keys, is, is.user)
		got, ok := m.get(keys, is)
		require.True(t, ok)
		require.Equal(t, is.user, got)
		_, ok = m.get(others, is)
		require.False(t, ok, "the key has changed")
		require.LessOrEqual(t, len(m.tokens), limits.TokensIssued)
	}
	m.put(keys, issue{"u", 1, 3}, "t")
	require.Len(t, m.tokens, 1, "the second is over")
}
