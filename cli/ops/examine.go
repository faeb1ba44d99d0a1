package ops

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"
)

// Level says how bad a finding is.
type Level string

// The levels.
const (
	Pass Level = "PASS"
	Warn Level = "WARN"
	Fail Level = "FAIL"
)

// Finding is the result of one check.
type Finding struct {
	Check  string `json:"check"` // a name that stays
	Level  Level  `json:"level"`
	Member string `json:"member,omitempty"` // name; "" for the cluster
	What   string `json:"what"`             // with the numbers
	Do     string `json:"do,omitempty"`     // the next step
}

// Bounds between the levels.
const (
	lagWarn, lagFail         = 1000, 10_000 // entries
	quotaWarn, quotaFail     = 0.80, 0.95
	certWarn, certFail       = 30 * 24 * time.Hour, 7 * 24 * time.Hour
	learnerLong              = time.Hour
	clockWarn, clockFail     = 1.0, 10.0   // seconds
	fsyncWarn, fsyncFail     = 0.010, 0.10 // seconds, p99
	commitWarn               = 0.025       // seconds, p99
	retainedWarn             = 1_000_000   // revisions
	filesWarn                = 0.8
	filesFew                 = 4096
	leftoverPart             = 0.5
	leftoverBytes            = 100 << 20
	electionFew, electionLow = 5, 8 // heartbeats in an election timeout
	quotaLarge               = 8 << 30
	growthSoon               = 24 * time.Hour
)

// book collects findings.
type book struct {
	c   *Cluster
	now time.Time
	all []Finding
}

func (b *book) add(level Level, check string, m *Member, do, format string, args ...any) {
	f := Finding{Check: check, Level: level, What: fmt.Sprintf(format, args...)}
	if m != nil {
		f.Member = m.title()
	}
	if level != Pass {
		f.Do = do
	}
	b.all = append(b.all, f)
}

// grade is Fail when v is at least bad, Warn when it is at least odd.
func grade(v, odd, bad float64) Level {
	switch {
	case v >= bad:
		return Fail
	case v >= odd:
		return Warn
	}
	return Pass
}

// examine says what is wrong, and what is right, with what was gathered: the worst first, otherwise in the order of the checks.
func examine(c *Cluster, now time.Time) []Finding {
	b := &book{c: c, now: now}
	b.reachable()
	b.quorum()
	b.alarms()
	b.lag()
	b.quota()
	b.certificates()
	b.versions()
	b.learners()
	return b.sorted()
}

func (b *book) sorted() []Finding {
	rank := map[Level]int{Fail: 0, Warn: 1, Pass: 2}
	sort.SliceStable(b.all, func(i, j int) bool { return rank[b.all[i].Level] < rank[b.all[j].Level] })
	return b.all
}

// worst is the worst level among findings.
func worst(all []Finding) Level {
	level := Pass
	for _, f := range all {
		if f.Level == Fail {
			return Fail
		}
		if f.Level == Warn {
			level = Warn
		}
	}
	return level
}

func (b *book) reachable() {
	for _, m := range b.c.Members {
		switch {
		case m.State == nil:
			do := "look whether its process runs and what its log says last"
			if m.ID != "" {
				do += "; if its machine is gone for good, replace it: member remove " + m.ID + ", then member add"
			}
			b.add(Fail, "members", m, do,
				"does not answer: %s", m.Error)
		case !slices.Contains(m.Endpoints, m.Endpoint):
			b.add(Warn, "members", m, "set --advertise-client-urls to an address that clients can reach",
				"answers at %s, and not at what it advertises (%s)", m.Endpoint, strings.Join(m.Endpoints, ", "))
		default:
			b.add(Pass, "members", m, "", "answers at %s in %s", m.Endpoint, seconds(m.State.RoundTrip))
		}
		if m.State == nil {
			continue
		}
		for _, text := range m.State.Errors {
			if !strings.Contains(text, "alarm:") && !strings.Contains(text, "no leader") {
				b.add(Fail, "members", m, "look at its log", "says of itself: %s", text)
			}
		}
	}
}

func (b *book) quorum() {
	voters, up := 0, 0
	for _, m := range b.c.Members {
		if m.Learner {
			continue
		}
		voters++
		if m.State != nil {
			up++
		}
	}
	switch need := voters/2 + 1; {
	case b.c.ID == "":
		b.add(Fail, "quorum", nil, "check --endpoints, and --cacert, --cert and --key if the cluster uses TLS", "%s", b.c.Problem)
	case up < need:
		b.add(Fail, "quorum", nil, "start members that are down until "+plural(need, "voter")+" run; nothing can be written before",
			"%d of %d voters answer and %d are needed: the cluster has no quorum", up, voters, need)
	case b.c.Leader == "":
		b.add(Fail, "quorum", nil, "look whether the members reach each other at their peer URLs, and whether their clocks and disks stall",
			"%d of %d voters answer, but they have no leader", up, voters)
	case up == need && voters > 1:
		b.add(Warn, "quorum", nil, "bring back what is down", "%d of %d voters answer: no other may fail", up, voters)
	default:
		b.add(Pass, "quorum", nil, "", "%d of %d voters answer, %s leads", up, voters, b.c.Leader)
	}
	if voters%2 == 0 && voters > 0 {
		b.add(Warn, "member-count", nil, "add a voter or remove one: an even number survives no more failures than one less",
			"%d voters", voters)
	} else if voters > 0 {
		b.add(Pass, "member-count", nil, "", "%s", plural(voters, "voter"))
	}
	seen := map[string]bool{}
	for _, m := range b.c.Members {
		if m.State != nil && m.State.Leader != "" {
			seen[m.State.Leader] = true
		}
		if m.State != nil && m.State.Leader == "" && b.c.Leader != "" {
			b.add(Fail, "leader", m, "look whether it reaches the other members at their peer URLs", "knows no leader")
		}
	}
	if len(seen) > 1 {
		b.add(Warn, "leader", nil, "ask again; if it stays so, look whether all members reach each other", "the members name %d different leaders", len(seen))
	}
}

func (b *book) alarms() {
	do := map[string]string{
		"NOSPACE": "delete what is not needed (quorate du shows what takes space), then compact; or raise --quota-backend-bytes. Our alarm ends by itself; etcd needs defrag and alarm disarm",
		"CORRUPT": "its data differs from the others': stop it and run quorate heal on its data directory, or replace it by a new member",
	}
	for _, a := range b.c.Alarms {
		hint := do[a.Alarm]
		if hint == "" {
			hint = "see alarm list"
		}
		b.all = append(b.all, Finding{Check: "alarms", Level: Fail, Member: a.Member, What: "alarm " + a.Alarm + " is raised", Do: hint})
	}
	if len(b.c.Alarms) == 0 {
		b.add(Pass, "alarms", nil, "", "none is raised")
	}
}

// behind is by how many entries a member is behind the one that is farthest.
func (c *Cluster) behind(m *Member) uint64 {
	var most uint64
	for _, o := range c.Members {
		if o.State != nil {
			most = max(most, o.State.Index)
		}
	}
	return most - min(most, m.State.Applied)
}

func (b *book) lag() {
	for _, m := range b.c.Members {
		if m.State == nil {
			continue
		}
		n := b.c.behind(m)
		do := "look at its disk and its network (quorate doctor); it catches up by itself if they are fast enough"
		b.add(grade(float64(n), lagWarn, lagFail), "lag", m, do, "%s entries behind the newest", grouped(int64(n)))
	}
}

// used is what a member has used of its quota, and whether it has one. Etcd counts its file, we what is in it.
func (m *Member) used() (bytes int64, limited bool) {
	if m.State == nil {
		return 0, false
	}
	if m.Web != nil && m.Web.Own != "" {
		return m.State.InUse, m.State.Quota > 0
	}
	return m.State.Size, m.State.Quota > 0
}

func (b *book) quota() {
	for _, m := range b.c.Members {
		used, limited := m.used()
		if !limited {
			continue
		}
		part := float64(used) / float64(m.State.Quota)
		do := "see what takes space: quorate du --depth 3; compact, and set --auto-compaction-retention; or raise --quota-backend-bytes. When it is full, only deletes and compactions pass"
		b.add(grade(part, quotaWarn, quotaFail), "quota", m, do, "%s of %s used (%s)", size(float64(used)), size(float64(m.State.Quota)), percent(float64(used), float64(m.State.Quota)))
	}
}

func (b *book) certificates() {
	for _, m := range b.c.Members {
		if m.Web == nil {
			continue
		}
		if c := m.Web.Certificate; c != nil {
			b.ends(m, "what it shows to clients", c.NotAfter)
			if c.Wrong != "" {
				b.add(Fail, "certificates", m, "issue a certificate that names this host, by a CA that clients trust; give the CA by --cacert", "clients cannot trust it at %s: %s", m.Endpoint, c.Wrong)
			}
		}
		m.Web.metrics.labelled("quorate_tls_certificate_not_after_seconds", func(label func(string) string, v float64) {
			b.ends(m, label("side")+" "+label("what")+" "+label("file"), int64(v))
		})
		m.Web.metrics.labelled("quorate_tls_reload_failing", func(label func(string) string, v float64) {
			if v > 0 {
				b.add(Fail, "certificates", m, "its log says what is wrong with the files", "cannot use the changed %s certificates, and goes on with those from before", label("side"))
			}
		})
	}
}

// ends is about the end of a certificate.
func (b *book) ends(m *Member, what string, unix int64) {
	at := time.Unix(unix, 0).UTC()
	left := at.Sub(b.now)
	do := "replace its file; our members and etcd's use the new one without a restart"
	switch {
	case left <= 0:
		b.add(Fail, "certificates", m, do, "%s ended %s ago, at %s", what, span(-left), at.Format(time.DateOnly))
	case left <= certFail:
		b.add(Fail, "certificates", m, do, "%s ends in %s, at %s", what, span(left), at.Format(time.DateOnly))
	case left <= certWarn:
		b.add(Warn, "certificates", m, do, "%s ends in %s, at %s", what, span(left), at.Format(time.DateOnly))
	default:
		b.add(Pass, "certificates", m, "", "%s ends in %s", what, span(left))
	}
}

func (b *book) versions() {
	byVersion := map[string][]string{}
	for _, m := range b.c.Members {
		if m.State == nil {
			continue
		}
		v := m.State.Version
		if m.Web != nil && m.Web.Own != "" {
			v = m.Web.Own + " (etcd " + v + ")"
		}
		byVersion[v] = append(byVersion[v], m.title())
	}
	var lines []string
	for v, names := range byVersion {
		lines = append(lines, v+" on "+strings.Join(names, ", "))
	}
	slices.SortFunc(lines, cmp.Compare)
	switch len(lines) {
	case 0:
	case 1:
		b.add(Pass, "versions", nil, "", "all run %s", strings.SplitN(lines[0], " on ", 2)[0])
	default:
		b.add(Warn, "versions", nil, "finish the upgrade", "the members run different versions: %s", strings.Join(lines, "; "))
	}
}

func (b *book) learners() {
	for _, m := range b.c.Members {
		if !m.Learner {
			continue
		}
		if m.State == nil || m.Web == nil {
			continue
		}
		started, ok := m.Web.started()
		up := b.now.Sub(started)
		if ok && up > learnerLong {
			b.add(Warn, "learners", m, "promote it (member promote "+m.ID+") or remove it: it does not vote", "is a learner since at least %s", span(up))
			continue
		}
		b.add(Pass, "learners", m, "", "is a learner, and does not vote")
	}
}
