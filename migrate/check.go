package migrate

import (
	"fmt"
	"slices"
)

// tolerance is how far the raft indices of members may be apart: a leader commits before others hear of it.
const tolerance = 1

// State is how far one member is.
type State struct {
	Where   string // endpoint or data directory
	Name    string // "" when it is not known
	Cluster uint64 // 0 when it is not known
	ID      uint64 // 0 when it is not known
	Index   uint64 // raft index
	Problem string // why nothing is known; "" when all is

	Stopped *Position // of a data directory; nil for a running member
}

func (s *State) title() string {
	if s.Name != "" {
		return fmt.Sprintf("member %s (%s)", s.Name, s.Where)
	}
	return s.Where
}

// Lag is how far a member is behind the one that is farthest.
type Lag struct {
	State
	Behind uint64
}

// Verdict says whether members have converged.
type Verdict struct {
	Converged bool
	Members   []Lag    // in the order in which they were given
	Findings  []string // why not
	Do        string   // what to do about it; "" when they have converged
}

// Judge compares the members of a cluster. They have converged when all are known, of one cluster and history, and their raft indices
// are within 1.
func Judge(states []State) *Verdict {
	v := &Verdict{}
	var farthest *State
	for i, s := range states {
		if s.Problem == "" && (farthest == nil || s.Index > farthest.Index) {
			farthest = &states[i]
		}
	}
	behind := false
	for i := range states {
		s := &states[i]
		lag := Lag{State: *s}
		if s.Problem != "" {
			v.find("%s: %s", s.title(), s.Problem)
		} else if lag.Behind = farthest.Index - s.Index; lag.Behind > tolerance {
			behind = true
			v.find("%s is behind by %d: its raft index is %d, and that of %s is %d", s.title(), lag.Behind, s.Index, farthest.title(), farthest.Index)
		}
		v.Members = append(v.Members, lag)
	}
	v.strangers(states)
	v.histories(states)
	v.Converged = len(v.Findings) == 0 && len(states) > 0
	v.advise(behind, states)
	return v
}

func (v *Verdict) find(format string, args ...any) {
	v.Findings = append(v.Findings, fmt.Sprintf(format, args...))
}

// strangers finds members of different clusters, and one that was given twice.
func (v *Verdict) strangers(states []State) {
	var first *State
	seen := map[uint64]*State{}
	for i := range states {
		s := &states[i]
		if s.Cluster == 0 {
			continue
		}
		if first == nil {
			first = s
		}
		if s.Cluster != first.Cluster {
			v.find("%s belongs to cluster %x, and %s to cluster %x", s.title(), s.Cluster, first.title(), first.Cluster)
		}
		if other := seen[s.ID]; s.ID != 0 && other != nil {
			v.find("%s and %s are the same member %x", other.title(), s.title(), s.ID)
		}
		seen[s.ID] = s
	}
}

// histories compares the logs of stopped members at the last entry that all of them have.
func (v *Verdict) histories(states []State) {
	stopped := slices.DeleteFunc(slices.Clone(states), func(s State) bool { return s.Stopped == nil || s.Problem != "" })
	for i := 1; i < len(stopped); i++ {
		a, b := &stopped[0], &stopped[i]
		at := min(a.Index, b.Index)
		one, ok := a.Stopped.TermAt(at)
		other, ok2 := b.Stopped.TermAt(at)
		if ok && ok2 && one != other {
			v.find("%s and %s have different entries at index %d (of terms %d and %d): one of them was not told by the leader yet", a.title(), b.title(), at, one, other)
		}
	}
}

func (v *Verdict) advise(behind bool, states []State) {
	running := slices.ContainsFunc(states, func(s State) bool { return s.Stopped == nil && s.Problem == "" })
	switch {
	case v.Converged:
	case len(states) == 0:
		v.Do = "name the members with --endpoints, or their data directories with --data-dir"
	case behind && running:
		v.Do = "stop all clients that write, wait some seconds, and check again; keys with a TTL go on expiring, which counts as a write"
	case behind:
		v.Do = "start the members again, let no client write, wait until \"quorate migrate check --endpoints ...\" says that they have converged, and stop them all"
	default:
		v.Do = "see to that, and check again; migrate when all members have converged only: their keys would differ otherwise"
	}
}
