package check

// QueueSample is the length of one queue at one instant.
type QueueSample struct {
	At     int64
	Member string
	Queue  string
	Length int64 // in the unit of the queue's limit: entries, bytes
}

// Bounds checks that no queue was ever longer than its limit: limits names all queues. Of every queue of every member the
// longest sample is reported, with how many were too long. Rules: "a queue over its bound", "a queue without a bound" (also
// for a length below 0, which is no length).
func Bounds(samples []QueueSample, limits map[string]int64) Report {
	type over struct {
		worst, first *QueueSample
		times        int
	}
	var r Report
	r.Operations = len(samples)
	found := map[string]*over{}
	unknown := map[string]*QueueSample{}
	for i := range samples {
		s := &samples[i]
		limit, ok := limits[s.Queue]
		if !ok || s.Length < 0 {
			if unknown[s.Queue] == nil {
				unknown[s.Queue] = s
			}
			continue
		}
		if s.Length <= limit {
			continue
		}
		name := s.Queue + "\x00" + s.Member
		o := found[name]
		if o == nil {
			o = &over{worst: s, first: s}
			found[name] = o
		}
		o.times++
		if s.Length > o.worst.Length {
			o.worst = s
		}
		if s.At < o.first.At {
			o.first = s
		}
	}
	for _, name := range sortedKeys(found) {
		o := found[name]
		r.add("a queue over its bound", "member %s, %s: %d at %d, and its bound is %d; %d samples are over it, the first at %d",
			o.worst.Member, o.worst.Queue, o.worst.Length, o.worst.At, limits[o.worst.Queue], o.times, o.first.At)
	}
	for _, name := range sortedKeys(unknown) {
		s := unknown[name]
		r.add("a queue without a bound", "member %s, %s: %d at %d, and no bound is known for it", s.Member, s.Queue, s.Length, s.At)
	}
	return r
}
