package authn_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"quorate.dev/quorate/authn"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/limits"
)

const patience = 2 * time.Minute

func hash(t testing.TB, password string) []byte {
	h, err := authn.Hash(password, authn.CostMin)
	require.NoError(t, err)
	return []byte(h)
}

func verifier(t testing.TB, parallel int) *authn.Verifier {
	v, err := authn.NewVerifier(authn.CostMin, parallel)
	require.NoError(t, err)
	t.Cleanup(v.Close)
	return v
}

func account(t testing.TB, name, password string) authn.Account {
	return authn.Account{Name: name, Known: true, Hash: hash(t, password)}
}

// answers receives what Check answers; a second answer to one question has no room and would be seen as a hang or a race.
type answers chan error

func (a answers) done(err error) { a <- err }

func (a answers) next(t testing.TB) error {
	t.Helper()
	select {
	case err := <-a:
		return err
	case <-time.After(patience):
		t.Fatal("no answer")
		return nil
	}
}

func check(t testing.TB, v *authn.Verifier, a authn.Account, password string) error {
	t.Helper()
	c := make(answers, 2)
	v.Check(a, password, c.done)
	err := c.next(t)
	require.Empty(t, c, "answered twice")
	return err
}

// cached reports whether a right password is answered before Check returns.
func cached(v *authn.Verifier, a authn.Account, password string) bool {
	c := make(answers, 2)
	v.Check(a, password, c.done)
	return len(c) > 0 && <-c == nil
}

// hold keeps the only goroutine of a Verifier busy until the function it returns is called.
func hold(t testing.TB, v *authn.Verifier) (release func()) {
	busy, free := make(chan struct{}), make(chan struct{})
	v.Hash("x", func(string, error) { close(busy); <-free })
	select {
	case <-busy:
	case <-time.After(patience):
		t.Fatal("the pool does not run")
	}
	return sync.OnceFunc(func() { close(free) })
}

func TestHash(t *testing.T) {
	h := hash(t, "secret")
	require.NoError(t, bcrypt.CompareHashAndPassword(h, []byte("secret")))
	cost, err := bcrypt.Cost(h)
	require.NoError(t, err)
	require.Equal(t, authn.CostMin, cost)
	for _, cost := range []int{-1, 0, 3, 32} {
		_, err := authn.Hash("secret", cost)
		require.ErrorContains(t, err, "use 4 to 31")
		require.NotContains(t, err.Error(), "secret")
		_, err = authn.NewVerifier(cost, 1)
		require.ErrorContains(t, err, "use 4 to 31")
	}
	_, err = authn.Hash(strings.Repeat("p", 73), authn.CostMin)
	require.EqualError(t, err, "bcrypt: password length exceeds 72 bytes")
}

func TestHashInBackground(t *testing.T) {
	v := verifier(t, 0)
	type result struct {
		hash string
		err  error
	}
	got := make(chan result, 2)
	v.Hash("secret", func(h string, err error) { got <- result{h, err} })
	r := <-got
	require.NoError(t, r.err)
	require.NoError(t, bcrypt.CompareHashAndPassword([]byte(r.hash), []byte("secret")))
	v.Hash(strings.Repeat("p", 73), func(h string, err error) { got <- result{h, err} })
	require.EqualError(t, (<-got).err, "bcrypt: password length exceeds 72 bytes")
}

func TestCheck(t *testing.T) {
	v := verifier(t, 0)
	ann := account(t, "ann", "secret")
	require.NoError(t, check(t, v, ann, "secret"))
	require.ErrorIs(t, check(t, v, ann, "Secret"), fault.AuthFailed)
	require.ErrorIs(t, check(t, v, ann, ""), fault.AuthFailed)
	require.NoError(t, check(t, v, account(t, "eve", ""), ""))
	require.ErrorIs(t, check(t, v, authn.Account{Name: "nobody"}, "secret"), fault.AuthFailed)
	require.ErrorIs(t, check(t, v, authn.Account{Name: "ann", Hash: ann.Hash}, "secret"), fault.AuthFailed, "a user who does not exist")
	require.ErrorIs(t, check(t, v, authn.Account{Name: "cert", Known: true, NoPassword: true}, ""), fault.NoPasswordUser)
	for _, broken := range []string{"", "plain", "$2a$04$short"} {
		require.ErrorIs(t, check(t, v, authn.Account{Name: "bad", Known: true, Hash: []byte(broken)}, broken), fault.AuthFailed)
	}
	long := strings.Repeat("p", 72)
	require.NoError(t, check(t, v, account(t, "long", long), long+"ignored"), "bcrypt sees 72 bytes, and so did those who made old hashes")
}

func TestCredentialCache(t *testing.T) {
	v := verifier(t, 1)
	ann := account(t, "ann", "secret")
	require.False(t, cached(v, ann, "secret"))
	require.NoError(t, check(t, v, ann, "secret"))
	require.True(t, cached(v, ann, "secret"))

	for i := range 3 {
		require.False(t, cached(v, ann, "wrong"), "round %d", i)
		require.ErrorIs(t, check(t, v, ann, "wrong"), fault.AuthFailed)
	}
	require.False(t, cached(v, authn.Account{Name: "ann"}, "secret"), "the user was deleted")
	require.False(t, cached(v, authn.Account{Name: "bob", Known: true, Hash: ann.Hash}, "secret"), "another user")
	require.False(t, cached(v, authn.Account{Name: "annsecret", Known: true, Hash: ann.Hash}, ""), "lengths matter")

	changed := account(t, "ann", "other")
	require.False(t, cached(v, changed, "secret"))
	require.ErrorIs(t, check(t, v, changed, "secret"), fault.AuthFailed, "the old password after a change")
	require.NoError(t, check(t, v, changed, "other"))
	again := account(t, "ann", "secret")
	require.False(t, cached(v, again, "secret"), "another hash of the same password")
}

func TestCredentialCacheDrop(t *testing.T) {
	v := verifier(t, 1)
	ann, bob := account(t, "ann", "a"), account(t, "bob", "b")
	require.NoError(t, check(t, v, ann, "a"))
	require.NoError(t, check(t, v, bob, "b"))
	v.Drop("ann")
	release := hold(t, v)
	require.False(t, cached(v, ann, "a"))
	require.True(t, cached(v, bob, "b"))
	v.Drop("")
	require.False(t, cached(v, bob, "b"))
	release()
}

// TestFlood fills the queue: what is known is still answered, others are refused clearly, and nobody is forgotten.
func TestFlood(t *testing.T) {
	v := verifier(t, 1)
	ann, bob := account(t, "ann", "a"), account(t, "bob", "b")
	require.NoError(t, check(t, v, ann, "a"))
	release := hold(t, v)
	defer release()

	var asked int
	got := make(answers, 2*limits.PasswordsWaiting)
	for i := range limits.PasswordQueuePerUser {
		v.Check(authn.Account{Name: fmt.Sprint("guess", i)}, "g", got.done)
		asked++
	}
	require.Empty(t, got)
	require.ErrorIs(t, check(t, v, authn.Account{Name: "one more"}, "g"), fault.TooManyRequests, "unknown users share one queue")
	v.Check(bob, "b", got.done)
	asked++
	require.Empty(t, got, "a known user still finds room")
	require.True(t, cached(v, ann, "a"), "a known password needs no room")

	for i := 0; asked < limits.PasswordQueue; i++ {
		a := authn.Account{Name: fmt.Sprint("user", i), Known: true, Hash: ann.Hash}
		v.Check(a, "g", got.done)
		asked++
	}
	require.Empty(t, got)
	require.ErrorIs(t, check(t, v, authn.Account{Name: "late", Known: true, Hash: ann.Hash}, "g"), fault.TooManyRequests)
	for asked < limits.PasswordsWaiting {
		v.Check(bob, "b", got.done)
		asked++
	}
	require.Empty(t, got, "those who ask the same share one place")
	require.ErrorIs(t, check(t, v, bob, "b"), fault.TooManyRequests, "but not without end")

	release()
	var right int
	for range asked {
		if err := got.next(t); err == nil {
			right++
		} else {
			require.ErrorIs(t, err, fault.AuthFailed)
		}
	}
	require.Equal(t, limits.PasswordsWaiting-limits.PasswordQueue+1, right, "bob's")
	require.Empty(t, got)
	require.ErrorIs(t, check(t, v, ann, "wrong"), fault.AuthFailed, "there is room again")
}

// TestTurns checks that a user is not held up by all the guesses at another one.
func TestTurns(t *testing.T) {
	v := verifier(t, 1)
	ann, bob := account(t, "ann", "a"), account(t, "bob", "b")
	release := hold(t, v)
	var guesses atomic.Int32
	got := make(answers, 100)
	for i := range limits.PasswordQueuePerUser {
		v.Check(ann, fmt.Sprint("guess", i), func(err error) { guesses.Add(1); got.done(err) })
	}
	before := make(chan int32, 1)
	v.Check(bob, "b", func(error) { before <- guesses.Load() })
	release()
	require.LessOrEqual(t, <-before, int32(1))
	for range limits.PasswordQueuePerUser {
		require.ErrorIs(t, got.next(t), fault.AuthFailed)
	}
}

func TestVerifierClose(t *testing.T) {
	v := verifier(t, 1)
	release := hold(t, v)
	defer release()
	got := make(answers, 20)
	for i := range 5 {
		v.Check(authn.Account{Name: "nobody"}, fmt.Sprint(i), got.done)
		v.Check(authn.Account{Name: "nobody"}, "same", got.done)
	}
	v.Hash("x", func(_ string, err error) { got.done(err) })
	v.Close()
	v.Close()
	for range 11 {
		require.ErrorIs(t, got.next(t), fault.Stopped)
	}
	require.ErrorIs(t, check(t, v, authn.Account{Name: "nobody"}, "x"), fault.Stopped)
	release()
	require.Empty(t, got)
}

// TestNoSecretInAnswers asks for every answer with a password and a hash that would be recognised.
func TestNoSecretInAnswers(t *testing.T) {
	v := verifier(t, 1)
	long := strings.Repeat("xyzzy-plugh", 10)
	_, err := authn.Hash(long, authn.CostMin)
	errs := []error{err}
	v.Hash(long, func(_ string, err error) { errs = append(errs, err) })
	for _, a := range []authn.Account{account(t, "ann", "a"), {Name: "nobody"}, {Name: "bad", Known: true, Hash: []byte("xyzzy-plugh")}, {Name: "cert", Known: true, NoPassword: true}} {
		errs = append(errs, check(t, v, a, "xyzzy-plugh"), check(t, v, a, long))
	}
	v.Close()
	errs = append(errs, check(t, v, authn.Account{Name: "late"}, "xyzzy-plugh"))
	for _, err := range errs {
		require.Error(t, err)
		require.NotContains(t, err.Error(), "xyzzy")
	}
}

// TestVerifierRace lets many goroutines ask, drop and finally close at the same time: every question has one answer.
func TestVerifierRace(t *testing.T) {
	v := verifier(t, 2)
	ann := account(t, "ann", "a")
	var wg sync.WaitGroup
	var asked, answered atomic.Int64
	for g := range 8 {
		wg.Go(func() {
			for i := range 50 {
				asked.Add(1)
				v.Check(ann, []string{"a", fmt.Sprint(i)}[(i+g)%2], func(err error) {
					if err != nil && !errors.Is(err, fault.AuthFailed) && !errors.Is(err, fault.Stopped) && !errors.Is(err, fault.TooManyRequests) {
						t.Errorf("unexpected answer %v", err)
					}
					answered.Add(1)
				})
				if i%10 == 0 {
					v.Drop("ann")
				}
			}
		})
	}
	wg.Wait()
	v.Close()
	require.Eventually(t, func() bool { return asked.Load() == answered.Load() }, patience, time.Millisecond)
}

// BenchmarkCheckRepeated measures what a repeated Authenticate costs besides its log entry.
func BenchmarkCheckRepeated(b *testing.B) {
	v, err := authn.NewVerifier(authn.CostMin, 1)
	require.NoError(b, err)
	defer v.Close()
	ann := account(b, "ann", "a")
	require.NoError(b, check(b, v, ann, "a"))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			v.Check(ann, "a", func(err error) {
				if err != nil {
					b.Error(err)
				}
			})
		}
	})
}
