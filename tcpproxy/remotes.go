package tcpproxy

import (
	"slices"
	"sync"
)

// remote is a target and whether it is set aside.
type remote struct {
	Target
	aside    bool
	retrying bool // a goroutine tries it
}

// remotes chooses among remotes. It is safe for concurrent use.
type remotes struct {
	random func(n int) int

	mu   sync.Mutex
	all  []*remote // by priority
	turn int       // of those without a weight
}

// weightless is how rarely, once in so many choices, remotes of weight 0 are chosen when others of the same priority have a weight
// (RFC 2782: "a very small chance").
const weightless = 100

func newRemotes(targets []Target, random func(int) int) *remotes {
	s := &remotes{random: random}
	for _, t := range targets {
		s.all = append(s.all, &remote{Target: t})
	}
	slices.SortStableFunc(s.all, func(a, b *remote) int { return int(a.Priority) - int(b.Priority) })
	return s
}

// addrs are the addresses, the preferred ones first.
func (s *remotes) addrs() (out []string) {
	for _, r := range s.all {
		out = append(out, r.Addr)
	}
	return out
}

// pick chooses a remote that was not tried: one that is not set aside if there is any, of the lowest priority, by weight or in
// turn. It is nil when all were tried.
func (s *remotes) pick(tried []*remote) *remote {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, aside := range []bool{false, true} {
		var class []*remote
		for _, r := range s.all {
			if r.aside == aside && !slices.Contains(tried, r) && (class == nil || class[0].Priority == r.Priority) {
				class = append(class, r)
			}
		}
		if class != nil {
			return s.choose(class)
		}
	}
	return nil
}

// choose draws by weight, or takes the next in turn.
func (s *remotes) choose(class []*remote) *remote {
	var equal []*remote
	sum := 0
	for _, r := range class {
		if r.Weight == 0 {
			equal = append(equal, r)
		}
		sum += int(r.Weight)
	}
	if sum == 0 || len(equal) > 0 && s.random(weightless) == 0 {
		r := equal[s.turn%len(equal)]
		s.turn++
		return r
	}
	at := s.random(sum)
	for _, r := range class {
		if at -= int(r.Weight); at < 0 {
			return r
		}
	}
	panic("BUG: a number drawn below the sum of the weights is not below it")
}

// setAside reports whether somebody has to begin to retry the remote.
func (s *remotes) setAside(r *remote) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.aside = true
	first := !r.retrying
	r.retrying = true
	return first
}

// restore reports whether the remote was set aside.
func (s *remotes) restore(r *remote) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := r.aside
	r.aside = false
	return was
}

func (s *remotes) isAside(r *remote) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return r.aside
}

// goOn tells who retries the remote whether to go on; if not, the next one who sets it aside begins again.
func (s *remotes) goOn(r *remote) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.retrying = r.aside
	return r.aside
}
