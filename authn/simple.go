package authn

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/limits"
)

const (
	simpleTTL     = 300 * time.Second
	sweepsPerLife = 8 // rounds of removal in the life of a token
	sweepLongest  = 30 * time.Second
)

// simple holds tokens that mean nothing by themselves. Recognising one takes no lock; making and ending them takes one.
type simple struct {
	clock   clock.Clock
	start   time.Time
	ttl     int64 // seconds
	applied func() ids.Index
	limit   int
	warn    func(string, error)

	live sync.Map // token -> *held

	mu    sync.Mutex
	users map[string]map[string]*held // user -> token -> itself
	count int
	stop  chan struct{} // nil once closed
}

// held is one token. Whether it is still valid is told by ends alone; removal only gives back its memory.
type held struct {
	user, token string
	index       ids.Index
	ends        atomic.Int64 // last second since simple.start at which it is valid; 0 when it was ended
}

func openSimple(cfg TokenConfig) *simple {
	if cfg.TTL <= 0 {
		cfg.TTL = simpleTTL
	}
	if cfg.Limit <= 0 {
		cfg.Limit = limits.SimpleTokens
	}
	s := &simple{
		clock: cfg.Clock, start: cfg.Clock.Now(), ttl: seconds(cfg.TTL), applied: cfg.Applied, limit: cfg.Limit, warn: cfg.Warn,
		users: map[string]map[string]*held{}, stop: make(chan struct{}),
	}
	ticker := s.clock.NewTicker(min(max(cfg.TTL/sweepsPerLife, limits.TokenSweep), sweepLongest))
	go s.sweep(ticker, s.stop)
	return s
}

// age is the time by which tokens live. Setting the clock of the machine does not move it.
func (s *simple) age() time.Duration { return s.clock.Now().Sub(s.start) }

// deadline is the end of a token used at an age, rounded up: a token lives for its TTL and less than a second longer, and one
// that is used by many at once is written to once a second.
func (s *simple) deadline(age time.Duration) int64 {
	return seconds(age) + s.ttl
}

func seconds(age time.Duration) int64 { return int64((age + time.Second - 1) / time.Second) }

func over(ends int64, age time.Duration) bool {
	return ends == 0 || seconds(age) > ends
}

// Prefix implements Tokens.
func (s *simple) Prefix() (string, error) { return randomPrefix(), nil }

// Issue implements Tokens.
func (s *simple) Issue(_, prefix string, index ids.Index, _ uint64) (string, error) {
	return simpleToken(prefix, index), nil
}

func simpleToken(prefix string, index ids.Index) string {
	return prefix + "." + strconv.FormatUint(uint64(index), 10)
}

// Assign implements Tokens. A prefix too short to be random is one of a member with other settings: a token made of it could
// be guessed.
func (s *simple) Assign(user, prefix string, index ids.Index) {
	if len(prefix) < prefixLetters {
		return
	}
	h := &held{user: user, token: simpleToken(prefix, index), index: index}
	h.ends.Store(s.deadline(s.age()))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop == nil {
		return
	}
	if old, ok := s.live.Load(h.token); ok {
		s.remove(old.(*held))
	}
	if s.count >= s.limit {
		s.evict()
	}
	if s.users[user] == nil {
		s.users[user] = map[string]*held{}
	}
	s.users[user][h.token] = h
	s.live.Store(h.token, h)
	s.count++
}

// remove must be called with mu held, once for a token.
func (s *simple) remove(h *held) {
	h.ends.Store(0)
	s.live.Delete(h.token)
	s.count--
	if of := s.users[h.user]; len(of) > 1 {
		delete(of, h.token)
	} else {
		delete(s.users, h.user)
	}
}

// Invalidate implements Tokens.
func (s *simple) Invalidate(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.invalidate(user)
}

func (s *simple) invalidate(user string) {
	if user != "" {
		s.trim(s.users[user], 0)
		return
	}
	for _, tokens := range s.users {
		s.trim(tokens, 0)
	}
}

// Identify implements Tokens.
func (s *simple) Identify(token string, revision uint64) (Identity, ids.Index, bool) {
	if user, ok := s.use(token); ok {
		return Identity{user, revision}, 0, true
	}
	index, ok := indexOf(token)
	if !ok {
		return Identity{}, 0, false
	}
	applied := s.applied()
	switch {
	case index > applied && uint64(index-applied) > limits.SimpleTokenAhead:
		return Identity{}, 0, false
	case index > applied:
		return Identity{}, index, false
	}
	// The index may have been applied between the first look and the question for it.
	user, ok := s.use(token)
	return Identity{user, revision}.or(ok), 0, ok
}

// or makes nobody of an identity that was not proved.
func (id Identity) or(proved bool) Identity {
	if proved {
		return id
	}
	return Identity{}
}

// use finds a valid token and extends its life.
func (s *simple) use(token string) (user string, ok bool) {
	v, ok := s.live.Load(token)
	if !ok {
		return "", false
	}
	h, now := v.(*held), s.age()
	next := s.deadline(now)
	for {
		ends := h.ends.Load()
		switch {
		case over(ends, now):
			return "", false
		case next <= ends:
			return h.user, true
		case h.ends.CompareAndSwap(ends, next): // not over the 0 of one that was ended meanwhile
			return h.user, true
		}
	}
}

// indexOf is the index at which a well-formed token was assigned.
func indexOf(token string) (ids.Index, bool) {
	prefix, digits, _ := strings.Cut(token, ".")
	if len(prefix) < prefixLetters {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return ids.Index(n), err == nil
}

// sweep gives back the memory of tokens that have expired.
func (s *simple) sweep(ticker *clock.Ticker, stop chan struct{}) {
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		now := s.age()
		s.live.Range(func(_, v any) bool {
			if h := v.(*held); over(h.ends.Load(), now) {
				s.expire(h)
			}
			return true
		})
	}
}

func (s *simple) expire(h *held) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.live.Load(h.token); ok && v.(*held) == h {
		s.remove(h)
	}
}

// evict makes room for a sixteenth of the limit. Users with the most tokens give up those that were unused for longest, down
// to a number that all may keep: who asks for tokens without end costs nobody else his.
func (s *simple) evict() {
	room := max(1, s.limit/16)
	keep := s.fairShare(s.limit - room)
	before := s.count
	for _, tokens := range s.users {
		s.trim(tokens, keep)
	}
	if s.count > s.limit-room { // more users than room: all have one token, and some must go
		all := make(map[string]*held, s.count)
		s.live.Range(func(k, v any) bool { all[k.(string)] = v.(*held); return true })
		s.trim(all, s.limit-room)
	}
	s.warn("too many simple tokens, removed "+strconv.Itoa(before-s.count)+" that were unused for longest", nil)
}

// fairShare is the largest number, at least 1, of tokens that every user may keep so that no more than total remain.
func (s *simple) fairShare(total int) int {
	counts := make([]int, 0, len(s.users))
	for _, tokens := range s.users {
		counts = append(counts, len(tokens))
	}
	slices.Sort(counts)
	for i, n := range counts {
		share := total / (len(counts) - i)
		if n >= share {
			return max(1, share)
		}
		total -= n
	}
	return s.limit
}

// trim removes the tokens that were unused for longest, but keep.
func (s *simple) trim(tokens map[string]*held, keep int) {
	if len(tokens) <= keep {
		return
	}
	// Ends change while they are sorted: each is read once.
	type aged struct {
		h    *held
		ends int64
	}
	order := make([]aged, 0, len(tokens))
	for _, h := range tokens {
		order = append(order, aged{h, h.ends.Load()})
	}
	slices.SortFunc(order, func(a, b aged) int {
		return cmp.Or(cmp.Compare(a.ends, b.ends), cmp.Compare(a.h.index, b.h.index))
	})
	for _, a := range order[:len(order)-keep] {
		s.remove(a.h)
	}
}

func (s *simple) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop == nil {
		return
	}
	close(s.stop)
	s.stop = nil
	s.invalidate("")
}
