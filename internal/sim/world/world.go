package world

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"strconv"
	"time"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/check"
	"quorate.dev/quorate/internal/sim/disk"
	"quorate.dev/quorate/leader"
	"quorate.dev/quorate/node"
)

const (
	clusterID     = ids.ClusterID(0xc1)
	electionTicks = 10
)

// Settings say what is simulated. A run draws them from its seed.
type Settings struct {
	Load
	Pace
	Store
	Crew
	Releases
	Tenancy
	Clocks
	Compaction
	Realm
	Legacy
	Members int      // 1 to 7
	Long    bool     // minutes in which little happens
	LongOf  int      // one of so many seeds is long; 0: one of six. Given, not drawn
	Faults  []string // which happen
	Rot     bool     // bits change on disks
}

// Load is what clients do.
type Load struct {
	Clients int           // that ask
	Keys    int           // that they ask for
	Pause   time.Duration // of a client between two requests, on average
}

// Pace is how long things take.
type Pace struct {
	Faulty     time.Duration // how long faults happen
	FaultEvery time.Duration // on average
	Tick       time.Duration // of raft
	Calm       time.Duration // most that the cluster may take to serve everybody afterwards
	Sync       time.Duration // most that a write of the log takes
	Apply      time.Duration // most that a batch waits to be applied
}

// Store is how members are set up.
type Store struct {
	CatchUp     int   // entries kept for followers
	Slack       int   // entries by which the log may be longer
	WatchLog    int   // revisions kept for watches
	Segment     int64 // of the log, bytes
	Checkpoints bool  // of leases
	Ordered     bool  // changes of directories survive a power loss in their order
	NoPreVote   bool  // elections begin without asking whether they could be won
}

// World is one run.
type World struct {
	set    Settings
	rng    *mathrand.Rand
	now    time.Duration
	agenda agenda
	seq    uint64
	steps  uint64
	phase

	roster
	clients  []*client
	watchers []*watcher
	net      *network
	trace    *trace
	legacy   legacy
	trials
	findings
}

// phase is how far the run is.
type phase struct {
	stopped bool
	quiet   bool          // clients ask nothing
	healed  bool          // nothing is broken any more
	since   time.Duration // that is so
}

// findings are what a run has seen.
type findings struct {
	violations []check.Violation
	seen       int64 // the newest revision that any client was answered with
	safe       int64 // up to here every event is in the hands of some watch: compaction may go this far
	counts     Counts
	hashes     map[ids.Index]stateHash
	tenants
	applications
	compacted int64 // the highest revision that a compaction was answered for
}

// Counts are of one run.
type Counts struct {
	Answered, Refused, Unknown int
	Starts, Kills, PowerLosses int
	Snapshots                  int
	Hashes                     int // comparisons of the state of two members at one index
	Undecided                  int // runs whose order of operations took too long to be found
	Reconfigurations
	Tenures
	Compactions int // by time or by number
	Guarding
	Rotting
	Past
}

// Tenures counts leases that are judged, those that ended by time, and times that a lock was held.
type Tenures struct{ Leases, Expired, Holds int }

type stateHash struct {
	member string
	hash   uint32
}

// Report is how a run ended.
type Report struct {
	Seed       uint64
	Settings   Settings
	Simulated  time.Duration
	Steps      uint64 // events that happened
	Sum        uint64 // of the trace: equal for equal runs
	Revision   int64
	Counts     Counts
	Violations []check.Violation
}

// seeded is the randomness of a run, also for those who take it from crypto/rand.
func seeded(seed uint64) *mathrand.Rand {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	rand.Reader = mathrand.NewChaCha8(key)
	key[31] = 1
	return mathrand.New(mathrand.NewChaCha8(key))
}

// Run simulates a seed. Lines go to out, if it is not nil. One run at a time in a process: raft draws from crypto/rand.Reader,
// which the run replaces.
func Run(seed uint64, set Settings, out io.Writer) Report {
	w := &World{set: set, rng: seeded(seed), findings: findings{hashes: map[ids.Index]stateHash{}}}
	if w.set.Members == 0 {
		w.set = draw(w.rng, set.LongOf)
		w.drawCompaction()
		w.drawRealm(seed)
		w.drawRot(seed)
		w.drawLegacy(seed)
	}
	w.trace = &trace{w: w, out: out}
	w.net = &network{w: w, delay: time.Millisecond, cut: map[link]bool{}, tails: tails{jam: map[link]time.Duration{}}}
	w.trace.note("-", "seed %d: %+v", seed, w.set)
	w.live()
	return Report{
		Seed: seed, Settings: w.set, Simulated: w.now, Steps: w.steps, Sum: w.trace.sum, Revision: w.seen, Counts: w.counts, Violations: w.violations,
	}
}

// live is the run itself. A panic of the code that is simulated is a broken promise like any other.
func (w *World) live() {
	defer func() {
		if p := recover(); p != nil {
			w.broken("panic: %v", p)
		}
	}()
	w.begin()
	w.run(w.set.Faulty)
	w.heal()
	if !w.stopped {
		w.judge()
	}
	for _, m := range w.members {
		m.kill()
	}
}

// draw makes up settings.
func draw(rng *mathrand.Rand, longOf int) Settings {
	pick := func(from ...int) int { return from[rng.IntN(len(from))] }
	s := Settings{
		LongOf:  longOf,
		Members: pick(1, 3, 3, 3, 3, 5, 5, 7),
		Load:    Load{Clients: pick(2, 4, 6), Keys: pick(4, 12, 24), Pause: time.Duration(pick(10, 40, 100)) * time.Millisecond},
		Pace: Pace{
			Faulty: time.Duration(pick(4, 8, 15)) * time.Second, FaultEvery: time.Duration(pick(200, 700, 2000)) * time.Millisecond, Tick: 100 * time.Millisecond, Calm: 30 * time.Second,
			Sync: time.Duration(pick(200, 1000, 5000)) * time.Microsecond, Apply: time.Duration(pick(100, 1000, 20000)) * time.Microsecond,
		},
		Store: Store{
			CatchUp: pick(5, 5, 50, 500), Slack: pick(5, 5, 50, 500), WatchLog: pick(4, 64, 1024), Segment: int64(pick(8, 32, 64)) << 10,
			Checkpoints: rng.IntN(2) == 0, Ordered: rng.IntN(2) == 0, NoPreVote: rng.IntN(4) == 0,
		},
	}
	s.Pause *= time.Duration(1 + s.Members/4) // what a request costs grows with the members
	s.Crew, s.Releases = crew(rng, s.Members)
	s.Faults = drawFaults(rng)
	s.Tenancy, s.Clocks = drawTenancy(rng), drawClocks(rng)
	drawLong(rng, &s)
	return s
}

func (w *World) timing() node.Timing {
	return node.Timing{Tick: w.set.Tick, ElectionTicks: electionTicks}
}

// leaseTTLMin is the shortest time to live that a lease is granted, in seconds.
func (w *World) leaseTTLMin() int64 { return leader.MinTTL(electionTicks, w.set.Tick) }

func (w *World) instant() int64 { return int64(w.now) }

// begin starts everything.
func (w *World) begin() {
	for i := range w.set.Members {
		m := w.newMember(memberID(i))
		m.founder = true
		w.members = append(w.members, m)
	}
	w.age()
	for _, m := range w.members {
		w.start(m)
	}
	for i := range w.set.Clients {
		c := &client{w: w, id: i + 1, mods: map[string]int64{}}
		w.clients = append(w.clients, c)
		w.after(w.upTo(time.Second), c.begin)
	}
	w.janitor()
	w.addViewers()
	w.addReaders()
	spans := [][2]string{{"\x00", "\x00"}, {"\x00", "\x00"}, {"k0", "k1"}, {"k01", ""}}
	for i, s := range spans {
		x := &watcher{w: w, name: "w" + strconv.Itoa(i+1), key: s[0], end: s[1], prev: i != 1}
		w.watchers = append(w.watchers, x)
		x.begin(1)
		w.after(w.upTo(time.Second), x.connect)
	}
	w.settle()
	w.revisit()
	w.govern()
	w.after(time.Second, w.note)
	w.after(w.upTo(w.set.FaultEvery), w.nemesis)
	w.rots()
	w.after(w.upTo(2*time.Second), w.operate)
}

// note keeps track of what compactions may remove.
func (w *World) note() {
	w.safe = 0
	for _, x := range w.watchers[:2] { // that see everything
		w.safe = max(w.safe, x.covered)
	}
	w.after(w.set.Tick, w.note)
}

// start starts a member's process, unless it runs.
func (w *World) start(m *Member) {
	if m.up || m.gone {
		return
	}
	if err := m.open(); err != nil {
		switch {
		case errors.Is(err, errRemoved):
			w.retire(m, "does not start again: it was removed")
		case m.cutting && errors.Is(err, disk.ErrPowerLost):
			w.powerLoss(m)
			w.revive(m)
		case m.disk.Failing() != "": // whoever mends it starts the member
			w.trace.note(m.name, "cannot start: %v", err)
			m.down(m.disk.Kill())
		case w.noticed(m, err):
		default:
			w.broken("%s cannot start: %v", m.name, err)
		}
		return
	}
	m.up = true
	w.counts.Starts++
	w.trace.note(m.name, "starts at index %d", m.state.Applied().Index)
	w.hold(m)
	life := m.life
	w.after(w.upTo(w.set.Tick), func() { m.ticks(life) })
	w.after(w.upTo(w.set.Tick), func() { m.rounds(life) })
	w.after(w.upTo(w.set.Tick), func() { m.announce(life) })
	m.follow()
}

func (w *World) member(id ids.MemberID) *Member {
	for _, m := range w.members {
		if m.ID == id {
			return m
		}
	}
	return nil
}

func (w *World) nameOf(id ids.MemberID) string {
	if name := w.names[id]; name != "" {
		return name
	}
	return id.String()
}

// violate records that a promise was broken.
func (w *World) violate(rule, format string, args ...any) {
	v := check.Violation{Rule: rule, Text: fmt.Sprintf(format, args...)}
	w.trace.note("!", "%s: %s", v.Rule, v.Text)
	w.violations = append(w.violations, v)
}

// broken ends the run: something happened that must not happen at all.
func (w *World) broken(format string, args ...any) {
	w.violate("broken", format, args...)
	w.stopped = true
}

// applied compares the state of members at some indexes.
func (w *World) applied(m *Member, index ids.Index) {
	w.inspect(m, index)
	every := ids.Index(8)
	if w.set.Long {
		every = 32
	}
	if index%every != 0 {
		return
	}
	image := m.state.Image()
	hash, err := image.Hash(0)
	if err2 := image.Close(); err == nil {
		err = err2
	}
	if life := m.life; err != nil && (w.rot.of == m || m.cutting && errors.Is(err, disk.ErrPowerLost)) { // as anybody else who reads it would notice
		w.after(0, func() { m.enter(life, func() { m.ended(err) }) })
		return
	}
	if err != nil {
		w.broken("the state of %s at index %d cannot be hashed: %v", m.name, index, err)
		return
	}
	other, ok := w.hashes[index]
	if !ok {
		w.hashes[index] = stateHash{m.name, hash.Hash}
		return
	}
	w.counts.Hashes++
	if other.hash != hash.Hash {
		w.violate("divergence", "%s and %s differ at index %d: %08x and %08x", other.member, m.name, index, other.hash, hash.Hash)
		w.stopped = true
	}
}

// Add adds the counts of another run.
func (c *Counts) Add(o Counts) {
	c.Answered += o.Answered
	c.Refused += o.Refused
	c.Unknown += o.Unknown
	c.Starts += o.Starts
	c.Kills += o.Kills
	c.PowerLosses += o.PowerLosses
	c.Snapshots += o.Snapshots
	c.Hashes += o.Hashes
	c.Undecided += o.Undecided
	c.Reconfigurations.add(o.Reconfigurations)
	c.Leases += o.Leases
	c.Expired += o.Expired
	c.Holds += o.Holds
	c.Compactions += o.Compactions
	c.Guarding.add(o.Guarding)
	c.Rotting.add(o.Rotting)
	c.Past.add(o.Past)
}
