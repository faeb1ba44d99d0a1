package authn

import (
	"crypto/rand"
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/crypto/bcrypt"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/limits"
)

// The costs of a hash, as powers of two of its work. Ten takes about 50 ms of a processor, each further step twice as long.
const (
	CostMin     = bcrypt.MinCost
	CostMax     = bcrypt.MaxCost
	CostDefault = bcrypt.DefaultCost
)

// bcryptBytes is how much of a password bcrypt sees.
const bcryptBytes = 72

// Hash computes the bcrypt hash of a password, in bcrypt's own text form ($2a$10$...); a log entry carries it in base64
// (standard encoding). It takes the time that the cost says: Verifier.Hash does it without holding up its caller. A cost
// outside CostMin to CostMax and a password of more than 72 bytes, of which bcrypt sees only the beginning, are errors.
func Hash(password string, cost int) (string, error) {
	if cost < CostMin || cost > CostMax {
		return "", fmt.Errorf("bcrypt cost %d is out of range: use %d to %d", cost, CostMin, CostMax)
	}
	h, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	return string(h), err
}

// Account is what the store knows of a user who gives a password. The zero value with a name is a user who does not exist.
type Account struct {
	Name       string
	Known      bool   // the user exists
	Hash       []byte // in bcrypt's text form
	NoPassword bool   // the user can only be recognised by a certificate
}

// Verifier checks passwords off its caller's goroutine. It is safe for concurrent use.
type Verifier struct {
	cost  int
	decoy []byte
	known *credentials
	pool  *pool
}

// NewVerifier makes a Verifier for new passwords of the given cost; a cost out of range is an error. It runs at most
// parallel computations at once; half the processors, at least one, when parallel is 0 or less.
func NewVerifier(cost, parallel int) (*Verifier, error) {
	if cost < CostMin || cost > CostMax {
		return nil, fmt.Errorf("bcrypt cost %d is out of range: use %d to %d", cost, CostMin, CostMax)
	}
	if parallel <= 0 {
		parallel = max(1, runtime.GOMAXPROCS(0)/2)
	}
	return &Verifier{cost: cost, decoy: decoy(cost), known: newCredentials(limits.Credentials), pool: newPool(parallel)}, nil
}

// decoy is a hash that belongs to no password, for users who do not exist. It is written down and not computed: at the
// highest costs that would take days.
func decoy(cost int) []byte {
	const alphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	text := fmt.Appendf(nil, "$2a$%02d$", cost)
	var random [22 + 31]byte // salt and sum
	_, _ = rand.Read(random[:])
	for _, b := range random {
		text = append(text, alphabet[b%64])
	}
	// The last letter of a salt carries two bits; only these four are what an encoder writes.
	text[7+21] = ".Oeu"[random[21]%4]
	return text
}

// Check calls done exactly once: with nil when the password is the account's, fault.AuthFailed when it is not or there is
// no such user, fault.NoPasswordUser for a user without one, fault.TooManyRequests when too many wait already, and
// fault.Stopped after Close. A password that was right before for the same hash is answered before Check returns; otherwise
// done runs on one of the Verifier's goroutines, and must not block there. Those who ask the same at the same time share one
// computation; a wrong password is forgotten as soon as they are answered.
func (v *Verifier) Check(a Account, password string, done func(error)) {
	if a.Known && a.NoPassword {
		done(fault.NoPasswordUser)
		return
	}
	if len(password) > bcryptBytes {
		password = strings.Clone(password[:bcryptBytes]) // what waits must not hold a large request
	}
	l, hash, possible := lane{laneKnown, a.Name}, a.Hash, a.Known
	if _, err := bcrypt.Cost(hash); err != nil {
		possible = false
	}
	if !a.Known {
		l = lane{kind: laneUnknown}
	}
	if !possible {
		hash = v.decoy
	}
	key := v.known.key(a.Name, hash, password)
	if possible && v.known.has(key) {
		done(nil)
		return
	}
	work := func() error {
		if bcrypt.CompareHashAndPassword(hash, []byte(password)) != nil || !possible {
			return fault.AuthFailed
		}
		v.known.put(key, a.Name)
		return nil
	}
	v.pool.add(&job{lane: l, key: key, work: work}, done)
}

// Hash computes the hash of a new password at the Verifier's cost and calls done exactly once, as Check does.
func (v *Verifier) Hash(password string, done func(hash string, err error)) {
	if len(password) > bcryptBytes {
		done("", bcrypt.ErrPasswordTooLong)
		return
	}
	var hash string
	work := func() (err error) {
		hash, err = Hash(password, v.cost)
		return err
	}
	v.pool.add(&job{lane: lane{kind: laneNew}, work: work}, func(err error) {
		if err != nil {
			done("", err)
			return
		}
		done(hash, nil)
	})
}

// Drop forgets the passwords that a user was let in with, those of all users for "". It only frees memory early: after a
// change of password they would not be found any more.
func (v *Verifier) Drop(user string) { v.known.drop(user) }

// Close answers everybody who waits with fault.Stopped. It does not wait for a computation under way.
func (v *Verifier) Close() { v.pool.close() }
