package authn

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

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
	require.Eventually(t, func() bool { return held() == 1 }, 30*time.Second, time.Millisecond)
	require.Len(t, s.users, 1)
	m.Advance(20 * time.Second)
	require.Eventually(t, func() bool { return held() == 0 }, 30*time.Second, time.Millisecond)
	require.Empty(t, s.users)
}

func TestVerifiedTokensAreBounded(t *testing.T) {
	var v verified
	at := func(i int) digest { return digest{byte(i), byte(i >> 8), byte(i >> 16)} }
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
}
