package state

import (
	"cmp"
	"fmt"
	"slices"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

// alarms are the alarms that are up. Each is stored as a key of the alarm bucket, the bytes of its AlarmMember, without value
// (source: etcd v3.7 server/storage/schema/alarm.go).
type alarms struct {
	list             []wire.AlarmMember // ascending by member, then by type; shared with views, so replaced and never changed
	noSpace, corrupt bool               // whether list has one of that type
}

func openAlarms(r storage.Reader) (a alarms, err error) {
	it, err := r.Iter(storage.BucketBounds(storage.BucketAlarm))
	if err != nil {
		return a, err
	}
	var list []wire.AlarmMember
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var one wire.AlarmMember
		if bad := one.Unmarshal(it.Key()[1:]); bad != nil {
			err = fmt.Errorf("the alarm %x cannot be read (%v): the store is damaged; restore it from a snapshot or another member", it.Key(), bad)
		}
		list = append(list, one)
	}
	if closing := it.Close(); err == nil {
		err = closing
	}
	slices.SortFunc(list, compareAlarms)
	a.replace(list)
	return a, err
}

func compareAlarms(a, b wire.AlarmMember) int {
	return cmp.Or(cmp.Compare(a.MemberID, b.MemberID), cmp.Compare(a.Alarm, b.Alarm))
}

func alarmKey(a wire.AlarmMember) []byte { return a.Append([]byte{storage.BucketAlarm}) }

func (a *alarms) replace(list []wire.AlarmMember) {
	has := func(t wire.AlarmType) bool {
		return slices.ContainsFunc(list, func(m wire.AlarmMember) bool { return m.Alarm == t })
	}
	*a = alarms{list: list, noSpace: has(wire.AlarmNoSpace), corrupt: has(wire.AlarmCorrupt)}
}

// get lists the alarms of a type, all for NONE.
func (a *alarms) get(t wire.AlarmType) []wire.AlarmMember {
	if t == wire.AlarmNone {
		return a.list
	}
	var out []wire.AlarmMember
	for _, one := range a.list {
		if one.Alarm == t {
			out = append(out, one)
		}
	}
	return out
}

// activate raises an alarm that is not up.
func (a *alarms) activate(b *storage.Batch, one wire.AlarmMember) (changed bool) {
	i, up := slices.BinarySearchFunc(a.list, one, compareAlarms)
	if up {
		return false
	}
	b.Set(alarmKey(one), nil)
	a.replace(slices.Insert(slices.Clone(a.list), i, one))
	return true
}

// deactivate clears an alarm that is up.
func (a *alarms) deactivate(b *storage.Batch, one wire.AlarmMember) (changed bool) {
	i, up := slices.BinarySearchFunc(a.list, one, compareAlarms)
	if !up {
		return false
	}
	b.Delete(alarmKey(one))
	a.replace(slices.Delete(slices.Clone(a.list), i, i+1))
	return true
}

// alarm answers with the alarm that is up after ACTIVATE, or was up before DEACTIVATE; to raise NONE, to clear what is not up
// and unknown actions give an empty answer, as in etcd.
func alarm(m *Machine, body []byte, r *command.Result) error {
	var req wire.AlarmRequest
	if err := decode(command.Alarm, &req, body); err != nil {
		return err
	}
	one := wire.AlarmMember{MemberID: req.MemberID, Alarm: req.Alarm}
	switch req.Action {
	case wire.AlarmGet:
		r.Alarms = m.alarms.get(req.Alarm)
	case wire.AlarmActivate:
		if req.Alarm == wire.AlarmNone {
			return nil
		}
		m.effects.Alarms = m.alarms.activate(m.batch, one) || m.effects.Alarms
		r.Alarms = []wire.AlarmMember{one}
	case wire.AlarmDeactivate:
		if m.alarms.deactivate(m.batch, one) {
			m.effects.Alarms = true
			r.Alarms = []wire.AlarmMember{one}
		}
	}
	return nil
}
