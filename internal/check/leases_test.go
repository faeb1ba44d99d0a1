package check

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// leaseRules are those of a cluster with an election timeout of one second, one leader from 0 to 100 s and another from
// 102 s on, in milliseconds.
func leaseRules() LeaseRules {
	return LeaseRules{Second: 1000, MinTTL: 2, Election: 1000, Bound: 1500, Unanswered: 3000,
		Stable: []Span{{0, 100_000}, {102_000, 1_000_000}}}
}

// goodLease is a lease of 10 s: granted at 1 s, renewed at 5 and at 9 s, gone at 19.6 s.
func goodLease() []LeaseOp {
	return []LeaseOp{
		{Act: LeaseGrant, Via: "c1", Lease: 7, Call: 1000, Return: 1010, TTL: 10},
		{Act: LeaseAsk, Via: "c1", Lease: 7, Call: 3000, Return: 3020, TTL: 7, Granted: 10},
		{Act: LeaseRenew, Via: "c1", Lease: 7, Call: 5000, Return: 5020, TTL: 10},
		{Act: LeaseRenew, Via: "c1", Lease: 7, Call: 9000, Return: 9020, TTL: 10},
		{Act: LeaseAsk, Via: "c2", Lease: 7, Call: 19_000, Return: 19_030, TTL: 0, Granted: 10},
		{Act: LeaseGone, Via: "watch", Lease: 7, Call: 19_600, Return: 19_600, Prompt: true},
		{Act: LeaseRenew, Via: "c1", Lease: 7, Call: 20_000, Return: 20_010, TTL: 0},
		{Act: LeaseAsk, Via: "c2", Lease: 7, Call: 21_000, Return: 21_030, TTL: -1},
	}
}

// wantViolation wants one of the rule that says text, or none at all when rule is empty.
func wantViolation(t *testing.T, r Report, rule, text string) {
	t.Helper()
	if rule == "" && len(r.Violations) == 0 {
		return
	}
	for _, v := range r.Violations {
		if rule != "" && v.Rule == rule && strings.Contains(v.Text, text) {
			return
		}
	}
	t.Fatalf("want a violation of %q that says %q, got %v", rule, text, r.Violations)
}

func TestLeases(t *testing.T) {
	for _, c := range []struct {
		name, rule, text string
		plant            func(ops []LeaseOp, rules *LeaseRules) []LeaseOp
	}{
		{"as it should be", "", "", func(ops []LeaseOp, _ *LeaseRules) []LeaseOp { return ops }},
		{"gone early", "a lease that ended early", "promised it until 19000", func(ops []LeaseOp, _ *LeaseRules) []LeaseOp {
			ops[5].Call, ops[5].Return = 18_999, 18_999
			return slices.Delete(ops, 4, 5)
		}},
		{"refused early", "a lease that ended early", "keep-alive of lease 7 via c1 [12000", func(ops []LeaseOp, _ *LeaseRules) []LeaseOp {
			return append(ops[:4], LeaseOp{Act: LeaseRenew, Via: "c1", Lease: 7, Call: 12_000, Return: 12_010})
		}},
		{"asked and gone early", "a lease that ended early", "time to live", func(ops []LeaseOp, _ *LeaseRules) []LeaseOp {
			return append(ops[:4], LeaseOp{Act: LeaseAsk, Via: "c1", Lease: 7, Call: 12_000, Return: 12_010, TTL: -1})
		}},
		{"gone early after a change of leaders", "a lease that ended early", "", func([]LeaseOp, *LeaseRules) []LeaseOp {
			return []LeaseOp{{Act: LeaseGrant, Lease: 7, Call: 99_000, Return: 99_010, TTL: 10}, {Act: LeaseGone, Lease: 7, Call: 105_000, Return: 105_000}}
		}},
		{"gone early, but revoked", "", "", func(ops []LeaseOp, _ *LeaseRules) []LeaseOp {
			return append(ops[:4], LeaseOp{Act: LeaseRevoke, Lease: 7, Call: 11_000, Return: Never}, LeaseOp{Act: LeaseGone, Lease: 7, Call: 11_500, Return: 11_500})
		}},
		{"revoked after it was gone early", "a lease that ended early", "", func(ops []LeaseOp, _ *LeaseRules) []LeaseOp {
			return append(ops[:4], LeaseOp{Act: LeaseRevoke, Lease: 7, Call: 12_000, Return: Never}, LeaseOp{Act: LeaseGone, Lease: 7, Call: 11_500, Return: 11_500})
		}},
		{"gone early by a fast clock", "", "", func(ops []LeaseOp, rules *LeaseRules) []LeaseOp {
			rules.Drift = 1000
			ops[5].Call, ops[5].Return = 18_995, 18_995
			return slices.Delete(ops, 4, 5)
		}},
		{"gone early by a clock that leapt", "", "", func(ops []LeaseOp, rules *LeaseRules) []LeaseOp {
			rules.Leaps = []Leap{{At: 9500, By: 3000}}
			ops[5].Call, ops[5].Return = 16_000, 16_000
			return slices.Delete(ops, 4, 5)
		}},
		{"gone earlier than by the clock that leapt", "a lease that ended early", "promised it until 16000", func(ops []LeaseOp, rules *LeaseRules) []LeaseOp {
			rules.Leaps = []Leap{{At: 9500, By: 3000}}
			ops[5].Call, ops[5].Return = 15_999, 15_999
			return slices.Delete(ops, 4, 5)
		}},
		{"renewed after the clock leapt, and gone early", "a lease that ended early", "promised it until 19000", func(ops []LeaseOp, rules *LeaseRules) []LeaseOp {
			rules.Leaps = []Leap{{At: 8999, By: 3000}}
			ops[5].Call, ops[5].Return = 18_999, 18_999
			return slices.Delete(ops, 4, 5)
		}},
		{"asked when it is over and not gone yet", "", "", func(ops []LeaseOp, _ *LeaseRules) []LeaseOp {
			ops[4].Call, ops[4].Return = 19_400, 19_410
			return ops
		}},
		{"as good as forever", "", "", func([]LeaseOp, *LeaseRules) []LeaseOp {
			return []LeaseOp{{Act: LeaseGrant, Lease: 7, Call: 10, Return: 20, TTL: math.MaxInt64 / 100},
				{Act: LeaseAsk, Lease: 7, Call: 30, Return: 40, TTL: math.MaxInt64/100 - 1, Granted: math.MaxInt64 / 100}}
		}},
		{"gone after a promise that cannot be relied on", "", "", func(ops []LeaseOp, rules *LeaseRules) []LeaseOp {
			rules.Doubtful = []Span{{9010, 9011}}
			ops[5].Call, ops[5].Return = 15_500, 15_500
			return slices.Delete(ops, 4, 5)
		}},
		{"seen to be gone late", "a lease that lives too long", "gone at 20520", func(ops []LeaseOp, _ *LeaseRules) []LeaseOp {
			ops[5].Call, ops[5].Return = 20_521, 20_521
			return ops[:6]
		}},
		{"told late that it is gone", "", "", func(ops []LeaseOp, _ *LeaseRules) []LeaseOp {
			ops[5].Call, ops[5].Return, ops[5].Prompt = 30_000, 30_000, false
			return ops
		}},
		{"there when it had to be gone", "a lease that lives too long", "time to live of lease 7 via c9", func(ops []LeaseOp, _ *LeaseRules) []LeaseOp {
			return append(ops[:5], LeaseOp{Act: LeaseAsk, Via: "c9", Lease: 7, Call: 21_000, Return: 21_010, TTL: 0, Granted: 10})
		}},
		{"renewed when it had to be gone", "a lease that lives too long", "keep-alive of lease 7 via c9", func(ops []LeaseOp, _ *LeaseRules) []LeaseOp {
			return append(ops[:5], LeaseOp{Act: LeaseRenew, Via: "c9", Lease: 7, Call: 21_000, Return: 21_010, TTL: 10})
		}},
		{"there because of a renewal without an answer", "", "", func(ops []LeaseOp, _ *LeaseRules) []LeaseOp {
			return append(ops[:4], LeaseOp{Act: LeaseRenew, Lease: 7, Call: 18_000, Return: Never},
				LeaseOp{Act: LeaseAsk, Via: "c9", Lease: 7, Call: 30_000, Return: 30_010, TTL: 0, Granted: 10})
		}},
		{"there because leaders changed", "", "", func([]LeaseOp, *LeaseRules) []LeaseOp {
			return []LeaseOp{{Act: LeaseGrant, Lease: 7, Call: 98_000, Return: 98_010, TTL: 10},
				{Act: LeaseAsk, Lease: 7, Call: 112_900, Return: 112_950, TTL: 0, Granted: 10}}
		}},
		{"there long after leaders changed", "a lease that lives too long", "had to be gone at 114500", func([]LeaseOp, *LeaseRules) []LeaseOp {
			return []LeaseOp{{Act: LeaseGrant, Lease: 7, Call: 98_000, Return: 98_010, TTL: 10},
				{Act: LeaseAsk, Lease: 7, Call: 114_600, Return: 114_650, TTL: 0, Granted: 10}}
		}},
		{"an unanswered grant that lives too long", "a lease that lives too long", "", func([]LeaseOp, *LeaseRules) []LeaseOp {
			return []LeaseOp{{Act: LeaseGrant, Lease: 7, Call: 1000, Return: Never, TTL: 1},
				{Act: LeaseGone, Lease: 7, Call: 8000, Return: 8000, Prompt: true}}
		}},
		{"back again", "a lease that came back", "keep-alive", func(ops []LeaseOp, _ *LeaseRules) []LeaseOp {
			ops[6].TTL = 10
			return ops[:7]
		}},
		{"back after a revocation", "a lease that came back", "revocation", func(ops []LeaseOp, _ *LeaseRules) []LeaseOp {
			ops[2] = LeaseOp{Act: LeaseRevoke, Lease: 7, Call: 5000, Return: 5020}
			return ops[:4]
		}},
		{"one id, two leases", "one id for two leases", "c8", func(ops []LeaseOp, _ *LeaseRules) []LeaseOp {
			return append(ops, LeaseOp{Act: LeaseGrant, Via: "c8", Lease: 7, Call: 30_000, Return: 30_010, TTL: 10})
		}},
		{"another TTL", "a lease's TTL", "granted for 10 s", func(ops []LeaseOp, _ *LeaseRules) []LeaseOp {
			ops[2].TTL = 11
			return ops[:3]
		}},
		{"too much remains", "a remaining time", "the most that remain", func(ops []LeaseOp, _ *LeaseRules) []LeaseOp {
			ops[1].TTL = 9
			return ops
		}},
		{"more than there ever was remains", "a remaining time", "more than the 10 s", func(ops []LeaseOp, rules *LeaseRules) []LeaseOp {
			rules.Stable = nil
			ops[1].TTL = 12
			return ops
		}},
		{"too little remains", "a remaining time", "the least that remain", func(ops []LeaseOp, _ *LeaseRules) []LeaseOp {
			ops[1].TTL = 6
			return ops
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			rules := leaseRules()
			ops := c.plant(goodLease(), &rules)
			wantViolation(t, Leases(ops, rules), c.rule, c.text)
			wantViolation(t, Leases(append(ops, LeaseOp{Act: LeaseGrant, Lease: 1, Return: 1, TTL: 5}), rules), c.rule, c.text)
		})
	}
}

// TestGoodLeases has a leader of its own keep time, with changes of leaders, and finds what it does to be right.
func TestGoodLeases(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 0))
		ops, rules := simulateLeases(rng)
		if r := Leases(ops, rules); len(r.Violations) > 0 || r.Expired == 0 {
			t.Fatalf("seed %d: %+v", seed, r)
		}
		// A leader that counts too fast or too slowly is found: the ends and remaining times of its leases give it away.
		for _, promise := range []int64{8, 12} {
			wrong := slices.Clone(ops)
			for i := range wrong {
				if wrong[i].Granted *= promise; wrong[i].Act == LeaseAsk {
					wrong[i].TTL *= 10
				} else {
					wrong[i].TTL *= promise
				}
			}
			rules.Second = 100
			if r := Leases(wrong, rules); len(r.Violations) == 0 {
				t.Errorf("seed %d: nothing is wrong with a clock that runs at %d0%%", seed, promise)
			}
		}
	}
}

// simulateLeases is a little cluster: leaders follow each other, deadlines are kept as the product keeps them.
func simulateLeases(rng *rand.Rand) ([]LeaseOp, LeaseRules) {
	rules := leaseRules()
	rules.Stable = nil
	type lease struct{ id, ttl, deadline int64 }
	var alive []*lease
	var ops []LeaseOp
	add := func(act LeaseAct, id, at, ttl, granted int64) {
		ops = append(ops, LeaseOp{Act: act, Via: fmt.Sprint("c", id%3), Lease: id, Call: at - rng.Int64N(40), Return: at + rng.Int64N(40), TTL: ttl, Granted: granted})
		if act != LeaseAsk && act != LeaseRevoke && rng.IntN(9) == 0 {
			ops[len(ops)-1].Return = Never
			ops[len(ops)-1].TTL = ttl
			if act == LeaseRenew {
				ops[len(ops)-1].TTL = 0
			}
		}
	}
	id, begun, change := int64(1), int64(0), int64(30_000)
	for now := int64(100); now < 200_000; now += 50 + rng.Int64N(100) {
		if now > change {
			rules.Stable = append(rules.Stable, Span{begun, change})
			now += 2000
			begun, change = now, now+rng.Int64N(60_000)
			for _, l := range alive {
				l.deadline = now + rules.Election + l.ttl*1000
			}
		}
		kept := alive[:0]
		for _, l := range alive {
			if l.deadline <= now-rng.Int64N(500) {
				ops = append(ops, LeaseOp{Act: LeaseGone, Via: "watch", Lease: l.id, Call: now, Return: now, Prompt: true})
				continue
			}
			kept = append(kept, l)
		}
		alive = kept
		if len(alive) < 4 {
			l := &lease{id: id, ttl: 2 + rng.Int64N(10)}
			l.deadline = now + l.ttl*1000
			alive, id = append(alive, l), id+1
			add(LeaseGrant, l.id, now, l.ttl, 0)
			continue
		}
		switch l := alive[rng.IntN(len(alive))]; {
		case l.deadline <= now:
		case rng.IntN(2) == 0:
			add(LeaseAsk, l.id, now, (l.deadline-now)/1000, l.ttl)
		case rng.IntN(4) == 0:
			l.deadline = now + l.ttl*1000
			add(LeaseRenew, l.id, now, l.ttl, 0)
		}
	}
	rules.Stable = append(rules.Stable, Span{begun, min(change, 200_000)})
	return ops, rules
}
