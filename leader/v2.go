package leader

import (
	"time"

	"go.uber.org/zap"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/wire"
)

// V2 is the duties about the tree of the v2 API.
type V2 struct {
	// State tells the earliest time at which a node expires, Unix time in nanoseconds, 0 for never, and the mode. nil: there is no
	// tree to care for.
	State func() (expiry int64, mode string)
	// Mode is what the tree is brought into, "separate" or "shared"; "" leaves it as it is.
	Mode string
}

// v2SyncEvery is the time between two proposals to remove what has expired, etcd's number.
const v2SyncEvery = 500 * time.Millisecond

// v2Retry is how long a refused change of the mode is not tried again.
const v2Retry = instant(time.Minute)

// v2Duties is what a Duty remembers of them.
type v2Duties struct {
	syncing, changing chan struct{} // one place each: a proposal is under way
	sync, change      instant       // not before
}

func newV2Duties() v2Duties {
	return v2Duties{syncing: make(chan struct{}, 1), changing: make(chan struct{}, 1)}
}

// tendV2 proposes to remove what has expired, and the mode that is wanted. Times of expiration are of the wall clock, which is the only
// one that members and requests share.
func (d *Duty) tendV2(now instant) {
	if d.cfg.V2.State == nil {
		return
	}
	expiry, mode := d.cfg.V2.State()
	wall := d.cfg.Clock.Now().UnixNano()
	if canary.On(canary.V2ExpireEarly) {
		wall += int64(time.Second)
	}
	if expiry != 0 && expiry <= wall && now >= d.v2.sync && take(d.v2.syncing) {
		d.v2.sync = now + instant(v2SyncEvery)
		if canary.On(canary.V2ExpireLate) {
			d.v2.sync += 20 * instant(v2SyncEvery)
		}
		d.cfg.Proposer.ProposeMessage(command.V2, &wire.V2Request{Method: "SYNC", Time: wall}, waiter(func(r *command.Result) {
			<-d.v2.syncing
			if r.Err != nil {
				d.cfg.Logger.Warn("could not remove expired v2 nodes, will try again", zap.Error(r.Err))
			}
		}))
	}
	if wanted := d.cfg.V2.Mode; wanted != "" && wanted != mode && now >= d.v2.change && take(d.v2.changing) {
		d.v2.change = now + v2Retry
		d.cfg.Proposer.ProposeMessage(command.V2, &wire.V2Request{Method: "MODE", Val: wanted, Time: wall}, waiter(func(r *command.Result) {
			<-d.v2.changing
			if r.Err != nil {
				d.cfg.Logger.Error("could not change the mode of the v2 API, will try again", zap.String("from", mode), zap.String("to", wanted), zap.Error(r.Err))
				return
			}
			d.cfg.Logger.Info("changed the mode of the v2 API", zap.String("from", mode), zap.String("to", wanted))
		}))
	}
}

// take takes the one place if it is free.
func take(place chan struct{}) bool {
	select {
	case place <- struct{}{}:
		return true
	default:
		return false
	}
}
