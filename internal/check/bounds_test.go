package check

import "testing"

func TestBounds(t *testing.T) {
	limits := map[string]int64{"proposals": 10, "outbox bytes": 1000}
	good := []QueueSample{{1, "a", "proposals", 10}, {2, "b", "proposals", 0}, {3, "a", "outbox bytes", 1000}}
	wantViolation(t, Bounds(good, limits), "", "")
	over := append(good, QueueSample{5, "b", "proposals", 11}, QueueSample{6, "b", "proposals", 13}, QueueSample{7, "b", "proposals", 12})
	r := Bounds(over, limits)
	wantViolation(t, r, "a queue over its bound", "member b, proposals: 13 at 6, and its bound is 10; 3 samples are over it, the first at 5")
	if len(r.Violations) != 1 {
		t.Fatal(r.Violations)
	}
	wantViolation(t, Bounds(append(good, QueueSample{5, "b", "inbox", 1}), limits), "a queue without a bound", "inbox: 1 at 5")
	wantViolation(t, Bounds(append(good, QueueSample{5, "b", "proposals", -1}), limits), "a queue without a bound", "-1 at 5")
}

func TestProgress(t *testing.T) {
	const healed, bound = 1000, 500
	ask := func(client int, call, ret int64, refusal string) Operation {
		return Operation{Client: client, Call: call, Return: ret, Request: Request{Kind: Put, Key: "k"}, Answer: Answer{Refusal: refusal}}
	}
	good := []Operation{ask(1, 100, Never, ""), ask(1, 1000, 1500, ""), ask(2, 900, 1200, ""), ask(2, 1201, 1300, LeaseNotFound)}
	wantViolation(t, Progress([]int{1, 2}, good, healed, bound), "", "")
	for _, c := range []struct {
		name, text string
		history    []Operation
	}{
		{"silent", "client 2 asked nothing after 1000", good[:3]},
		{"late", "the first was client 2: put", append(good[:3:3], ask(2, 1201, 1700, ""), ask(2, 1701, 1702, ""))},
		{"never answered", "client 2 asked 2 times after 1000, when all faults had ended, and never had success",
			append(good[:3:3], ask(2, 1201, Never, ""), ask(2, 1300, 1301, "etcdserver: too many requests"))},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Progress([]int{1, 2}, c.history, healed, bound)
			wantViolation(t, r, "no progress", c.text)
			if len(r.Violations) != 1 {
				t.Fatal(r.Violations)
			}
		})
	}
}
