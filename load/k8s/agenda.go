package k8s

import (
	"container/heap"
	"time"
)

// action is a kind of thing that is due.
type action uint8

const (
	renewLease action = iota
	postStatus
	createPod
	stepPod
	retirePod
	postEvent
	getOne
	listSpace
	listAll
	casCompaction
	relistServer
	askProgress
	retryCall
	endWarmup
)

// due is an entry of the agenda.
type due struct {
	at   time.Duration // since the begin of the program's run
	what action
	id   int64
	call *call // of retryCall
}

// agenda is a heap of what is due, the earliest first.
type agenda []due

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].at < a[j].at }
func (a agenda) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }

// Push implements heap.Interface.
func (a *agenda) Push(x any) { *a = append(*a, x.(due)) }

// Pop implements heap.Interface.
func (a *agenda) Pop() any {
	old := *a
	x := old[len(old)-1]
	old[len(old)-1] = due{}
	*a = old[:len(old)-1]
	return x
}

func (a *agenda) add(d due) { heap.Push(a, d) }

// next takes the earliest entry if it is due now.
func (a *agenda) next(now time.Duration) (due, bool) {
	if len(*a) == 0 || (*a)[0].at > now {
		return due{}, false
	}
	return heap.Pop(a).(due), true
}
