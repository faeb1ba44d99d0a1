package load

import "time"

// schedule is the fixed timetable of an open loop: request i is meant to start at i/rate seconds.
type schedule struct {
	rate float64 // requests a second
	last int64   // requests in all
}

// newSchedule covers the warm-up and the measured part of s. Total counts the measured requests only.
func newSchedule(s *Shape) schedule {
	const never = 1 << 62
	t := schedule{rate: s.Rate, last: never}
	if s.Duration > 0 {
		t.last = int64((s.Warmup + s.Duration).Seconds() * s.Rate)
	}
	if s.Total > 0 {
		t.last = min(t.last, s.Total+t.before(s.Warmup))
	}
	return t
}

// at is the intended start of request i, since the begin of the run.
func (t schedule) at(i int64) time.Duration {
	return time.Duration(float64(i) / t.rate * float64(time.Second))
}

// before is how many requests are meant to start before d.
func (t schedule) before(d time.Duration) int64 {
	n := int64(d.Seconds() * t.rate)
	for n > 0 && t.at(n-1) >= d {
		n--
	}
	for t.at(n) < d {
		n++
	}
	return n
}

// due is how many requests are meant to have started by now.
func (t schedule) due(now time.Duration) int64 {
	n := int64(now.Seconds() * t.rate)
	for n > 0 && t.at(n-1) > now {
		n--
	}
	for n < t.last && t.at(n) <= now {
		n++
	}
	return min(n, t.last)
}
