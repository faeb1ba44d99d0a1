package grpcapi

import (
	"context"
	"hash/crc32"
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

const serviceMaintenance = "etcdserverpb.Maintenance"

func (v *Services) registerMaintenance(s *rpc.Server) {
	v.unary(s, serviceMaintenance, "Alarm", v.handleAlarm)
	v.unary(s, serviceMaintenance, "Status", cold(v.handleStatus))
	v.unary(s, serviceMaintenance, "Defragment", cold(v.handleDefragment))
	v.unary(s, serviceMaintenance, "Hash", cold(v.handleHash))
	v.unary(s, serviceMaintenance, "HashKV", cold(v.handleHashKV))
	v.unary(s, serviceMaintenance, "MoveLeader", cold(v.handleMoveLeader))
	v.unary(s, serviceMaintenance, "Downgrade", cold(v.handleDowngrade))
	v.stream(s, serviceMaintenance, "Snapshot", v.handleSnapshot)
}

func (v *Services) revision() ids.Revision { return v.Store.View().Revision() }

// handleAlarm sends all three actions through the log, as etcd does.
func (v *Services) handleAlarm(c *rpc.Call, who asker, msg []byte) {
	var req wire.AlarmRequest
	if err := req.Unmarshal(msg); err != nil {
		c.Fail(malformed(err))
		return
	}
	if err := who.may(v.Store.View(), &auth.Request{AlarmGet: req.Action == wire.AlarmGet}); err != nil {
		c.Fail(statusOf(err))
		return
	}
	who.propose(command.Alarm, msg, &answer{c, func(r *command.Result) {
		resp := &etcdserverpb.AlarmResponse{Header: v.headerProto(r.Revision)}
		for _, a := range r.Alarms {
			resp.Alarms = append(resp.Alarms, alarmProto(a))
		}
		replyProto(c, resp)
	}})
}

func alarmProto(a wire.AlarmMember) *etcdserverpb.AlarmMember {
	return &etcdserverpb.AlarmMember{MemberID: a.MemberID, Alarm: etcdserverpb.AlarmType(a.Alarm)}
}

// alarmText is how Status words an alarm, which is how etcd's message type prints itself.
func alarmText(a wire.AlarmMember) string {
	text := "alarm:" + etcdserverpb.AlarmType(a.Alarm).String()
	if a.MemberID != 0 { // as protobuf prints: what is zero is not there
		text = "memberID:" + strconv.FormatUint(a.MemberID, 10) + " " + text
	}
	return text
}

func (v *Services) handleStatus(c *rpc.Call, _ asker, _ *etcdserverpb.StatusRequest) {
	view, node := v.Store.View(), v.Node.Status()
	down := view.Members.Downgrade()
	resp := &etcdserverpb.StatusResponse{
		Header:           v.headerProto(view.Revision()),
		Version:          v.Settings.EtcdVersion,
		DbSize:           v.Store.DiskBytes(),
		DbSizeInUse:      view.RetainedBytes(),
		DbSizeQuota:      v.Settings.QuotaBytes,
		Leader:           uint64(node.Leader),
		RaftIndex:        uint64(node.Committed),
		RaftTerm:         uint64(node.Term),
		RaftAppliedIndex: uint64(node.Applied),
		StorageVersion:   v.Settings.StorageVersion,
		DowngradeInfo:    &etcdserverpb.DowngradeInfo{Enabled: down.Enabled, TargetVersion: down.Target},
	}
	if m, ok := view.Members.Get(v.Member); ok {
		resp.IsLearner = m.IsLearner
	}
	if node.Leader == 0 {
		resp.Errors = append(resp.Errors, fault.NoLeader.Text)
	}
	for _, a := range view.Alarms {
		resp.Errors = append(resp.Errors, alarmText(a))
	}
	if v.Settings.Version != "" {
		c.SetHeader(metaVersion, v.Settings.Version)
	}
	replyProto(c, resp)
}

// handleDefragment has nothing to do: the engine gives space back by itself.
func (v *Services) handleDefragment(c *rpc.Call, _ asker, _ *etcdserverpb.DefragmentRequest) {
	replyProto(c, &etcdserverpb.DefragmentResponse{})
}

// later runs a read of the whole store on the lane.
func (v *Services) later(c *rpc.Call, job func()) {
	if err := v.lane.add(job); err != nil {
		c.Fail(statusOf(err))
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// handleHash answers a CRC-32C over every key and value of this member's engine, buckets included, in order. Members with
// the same history differ in what is theirs alone, so only HashKV compares members.
func (v *Services) handleHash(c *rpc.Call, _ asker, _ *etcdserverpb.HashRequest) {
	v.later(c, func() {
		image := v.Store.Image()
		defer image.Close()
		sum, err := engineHash(image.Frozen)
		if err != nil {
			c.Fail(statusOf(err))
			return
		}
		replyProto(c, &etcdserverpb.HashResponse{Header: v.headerProto(v.revision()), Hash: sum})
	})
}

func engineHash(r storage.Reader) (uint32, error) {
	it, err := r.Iter(nil, nil)
	if err != nil {
		return 0, err
	}
	sum := uint32(0)
	for ok := it.First(); ok; ok = it.Next() {
		sum = crc32.Update(sum, castagnoli, it.Key())
		sum = crc32.Update(sum, castagnoli, it.Value())
	}
	return sum, it.Close()
}

// handleHashKV answers the hash of the key space up to a revision. At a recently compacted revision it is the hash that
// was taken before the compaction removed anything, which members can compare however far their removal is.
func (v *Services) handleHashKV(c *rpc.Call, _ asker, req *etcdserverpb.HashKVRequest) {
	reply := func(h mvcc.Hash) {
		replyProto(c, &etcdserverpb.HashKVResponse{
			Header: v.headerProto(v.revision()), Hash: h.Hash,
			CompactRevision: int64(h.Compacted), HashRevision: int64(h.Revision),
		})
	}
	if h, ok := v.Compactions.Hash(ids.Revision(req.Revision)); ok && req.Revision > 0 {
		reply(h)
		return
	}
	v.later(c, func() {
		image := v.Store.Image()
		defer image.Close()
		h, err := mvcc.HashKV(image.Frozen, ids.Revision(req.Revision))
		if err != nil {
			c.Fail(statusOf(err))
			return
		}
		reply(h)
	})
}

func (v *Services) handleMoveLeader(c *rpc.Call, _ asker, req *etcdserverpb.MoveLeaderRequest) {
	if v.Node.Status().Leader != v.Member {
		c.Fail(statusOf(fault.NotLeader))
		return
	}
	target, known := v.Store.View().Members.Get(ids.MemberID(req.TargetID))
	switch {
	case !known || target.IsLearner:
		c.Fail(statusOf(fault.BadLeaderTransferee))
	case target.ID == v.Member:
		replyProto(c, &etcdserverpb.MoveLeaderResponse{})
	default:
		go v.moveLeader(c, target.ID)
	}
}

// moveLeader waits for the transfer, which takes an election.
func (v *Services) moveLeader(c *rpc.Call, to ids.MemberID) {
	ctx, cancel := context.WithTimeout(c.Context(), requestTimeout(v.Settings.Election))
	defer cancel()
	err := v.Node.TransferLeadership(ctx, to)
	if err != nil && ctx.Err() != nil {
		err = fault.TimeoutLeaderTransfer // also for a caller who went away, as etcd
	}
	if err != nil {
		c.Fail(statusOf(err))
		return
	}
	replyProto(c, &etcdserverpb.MoveLeaderResponse{})
}

// handleDowngrade validates as etcd does, cancels always (etcd's cancel never fails), and enables nothing.
func (v *Services) handleDowngrade(c *rpc.Call, _ asker, req *etcdserverpb.DowngradeRequest) {
	v.Node.Read(func(err error) {
		if err != nil {
			c.Fail(statusOf(err))
			return
		}
		members := v.Store.View().Members
		switch req.Action {
		case etcdserverpb.DowngradeRequest_CANCEL:
		case etcdserverpb.DowngradeRequest_VALIDATE, etcdserverpb.DowngradeRequest_ENABLE:
			err = checkDowngrade(req.Version, members.Version(), members.Downgrade().Enabled)
			if err == nil && req.Action == etcdserverpb.DowngradeRequest_ENABLE {
				err = errDowngrade
			}
		default:
			err = errUnknownMethod
		}
		if err != nil {
			c.Fail(statusOf(err))
			return
		}
		major, minor, _ := versionOf(members.Version())
		replyProto(c, &etcdserverpb.DowngradeResponse{
			Header:  v.headerProto(v.revision()),
			Version: strconv.Itoa(major) + "." + strconv.Itoa(minor),
		})
	})
}

// checkDowngrade says whether a cluster may go from version current to target: one minor version down.
func checkDowngrade(target, current string, running bool) error {
	major, minor, ok := versionOf(target)
	if !ok {
		return fault.WrongDowngradeVersionFormat
	}
	nowMajor, nowMinor, ok := versionOf(current)
	switch {
	case !ok:
		return fault.ClusterVersionUnavailable
	case major != nowMajor || minor != nowMinor-1:
		return fault.InvalidDowngradeTargetVersion
	case running:
		return fault.DowngradeInProcess
	}
	return nil
}

// versionOf reads a semantic version, "X.Y.Z" with or without "-pre" and "+meta", or just "X.Y".
func versionOf(s string) (major, minor int, ok bool) {
	if major, minor, ok = semantic(s); ok {
		return major, minor, true
	}
	return semantic(s + ".0")
}

func semantic(s string) (major, minor int, ok bool) {
	core, meta, _ := strings.Cut(s, "+")
	core, pre, _ := strings.Cut(core, "-")
	parts := strings.Split(core, ".")
	if len(parts) != 3 || !identifier(pre) || !identifier(meta) {
		return 0, 0, false
	}
	var n [3]int
	for i, p := range parts {
		v, err := strconv.ParseUint(p, 10, 31)
		if err != nil {
			return 0, 0, false
		}
		n[i] = int(v)
	}
	return n[0], n[1], true
}

// identifier says whether s can follow the dash or the plus of a semantic version.
func identifier(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r != '.' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}
