package leader

import (
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/wire"
)

// clearPercent is to what part of the quota the store must have shrunk before its NOSPACE alarm is taken back. The gap keeps
// a store at its limit from raising and clearing the alarm with every request.
const clearPercent = 95

// clearAlarm proposes to take back this member's NOSPACE alarm when there is space again. Every member does that for itself,
// whoever leads: another one may have another quota.
func (d *Duty) clearAlarm() {
	alarm := wire.AlarmMember{MemberID: uint64(d.cfg.Member), Alarm: wire.AlarmNoSpace}
	if d.cfg.QuotaBytes <= 0 || !slices.Contains(d.cfg.State.Alarms(), alarm) {
		return
	}
	used := d.cfg.State.RetainedBytes()
	if used > d.cfg.QuotaBytes/100*clearPercent || !d.clearing.CompareAndSwap(false, true) {
		return
	}
	m := &wire.AlarmRequest{Action: wire.AlarmDeactivate, MemberID: alarm.MemberID, Alarm: alarm.Alarm}
	d.cfg.Proposer.ProposeMessage(command.Alarm, m, waiter(func(r *command.Result) {
		d.clearing.Store(false)
		if r.Err != nil {
			d.cfg.Logger.Warn("could not take back the NOSPACE alarm, will try again", zap.Error(r.Err))
			return
		}
		d.cfg.Logger.Info("took back the NOSPACE alarm: there is space again",
			zap.Int64("used-bytes", used), zap.Int64("quota-bytes", d.cfg.QuotaBytes))
	}))
}

// raiseVersion proposes this release's cluster version when the cluster has none or a lower one.
func (d *Duty) raiseVersion() {
	current := d.cfg.State.ClusterVersion()
	if d.cfg.ClusterVersion == "" || !lower(current, d.cfg.ClusterVersion) || !d.versioned.CompareAndSwap(false, true) {
		return
	}
	m := &wire.ClusterVersionSetRequest{Ver: d.cfg.ClusterVersion}
	d.cfg.Proposer.ProposeMessage(command.ClusterVersion, m, waiter(func(r *command.Result) {
		d.versioned.Store(false)
		if r.Err != nil {
			d.cfg.Logger.Warn("could not set the cluster version, will try again",
				zap.String("from", current), zap.String("to", d.cfg.ClusterVersion), zap.Error(r.Err))
		}
	}))
}

// lower reports whether version a, "" or "major.minor.patch", is before b. What is no number counts as 0.
func lower(a, b string) bool {
	if a == "" {
		return true
	}
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(as), len(bs)) {
		x, _ := strconv.Atoi(as[i])
		y, _ := strconv.Atoi(bs[i])
		if x != y {
			return x < y
		}
	}
	return false
}
