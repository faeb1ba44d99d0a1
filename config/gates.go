package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Gate is one feature gate: a switch for behaviour that etcd has not made permanent.
type Gate struct {
	Name    string
	Beta    bool // else alpha
	Default bool
	State   State  // Active, Later or NoEffect
	Help    string // what it does, or why nothing happens
}

// The gates of etcd v3.7 (server/features/etcd_features.go).
var gates = []Gate{
	{"CompactHashCheck", false, true, Active, "the leader compares the hashes that members compute at compactions; on here, because they are computed anyway"},
	{"FastLeaseKeepAlive", true, true, NoEffect, "keep-alives never wait for the applied index here"},
	{"InitialCorruptCheck", false, false, Active, "compare data with the other members before serving"},
	{"LeaseCheckpoint", false, false, Active, "the leader records remaining TTLs of long leases"},
	{"LeaseCheckpointPersist", false, false, NoEffect, "recorded remaining TTLs are always stored"},
	{"PriorityRequest", false, false, NoEffect, "lease revocations have their own bound here"},
	{"SetMemberLocalAddr", false, false, Later, "connect to peers from the advertised address"},
	{"StopGRPCServiceOnDefrag", false, false, NoEffect, "defragmentation is instant here"},
	{"TxnModeWriteWithSharedBuffer", true, true, NoEffect, "transactions never copy buffers here"},
}

const (
	gateAllAlpha = "AllAlpha"
	gateAllBeta  = "AllBeta"
)

// Gates holds the gates that were set, by position in the table of gates plus the two groups: 0 unset, 1 on, 2 off.
type Gates struct{ value [len(gateSlots)]uint8 }

// gateSlots is the canonical order: groups first, then the gates.
var gateSlots = [...]string{gateAllAlpha, gateAllBeta, "CompactHashCheck", "FastLeaseKeepAlive", "InitialCorruptCheck", "LeaseCheckpoint",
	"LeaseCheckpointPersist", "PriorityRequest", "SetMemberLocalAddr", "StopGRPCServiceOnDefrag", "TxnModeWriteWithSharedBuffer"}

const gateGroups = 2

const (
	gateOn  = 1
	gateOff = 2
)

// Enabled reports whether the gate is on: as set, else as its group was set, else by default. An unknown name panics: the
// names are constants of this program.
func (g Gates) Enabled(name string) bool {
	for i := range gates {
		if gates[i].Name != name {
			continue
		}
		group := 0
		if gates[i].Beta {
			group = 1
		}
		for _, v := range []uint8{g.value[gateGroups+i], g.value[group]} {
			if v != 0 {
				return v == gateOn
			}
		}
		return gates[i].Default
	}
	panic("BUG: there is no feature gate " + name)
}

// String is the canonical form of the gates that were set.
func (g Gates) String() string {
	var out []string
	for i, v := range g.value {
		if v != 0 {
			out = append(out, gateSlots[i]+"="+strconv.FormatBool(v == gateOn))
		}
	}
	return strings.Join(out, ",")
}

func parseGates(text string) (any, error) {
	var g Gates
	for _, pair := range words(text) {
		if pair == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		name = strings.TrimSpace(name)
		slot := gateSlot(name)
		switch {
		case !ok:
			return nil, fmt.Errorf("missing bool value for %s: write %s=true or %s=false", name, name, name)
		case slot < 0:
			return nil, fmt.Errorf("unrecognized feature gate: %s (known: %s)", name, strings.Join(gateSlots[:], ", "))
		}
		on, err := strconv.ParseBool(strings.TrimSpace(value))
		if err != nil {
			return nil, fmt.Errorf("invalid value of %s: write true or false", pair)
		}
		g.value[slot] = gateOff
		if on {
			g.value[slot] = gateOn
		}
	}
	return g, nil
}

func gateSlot(name string) int {
	for i := range gateSlots {
		if gateSlots[i] == name {
			return i
		}
	}
	return -1
}

// FeatureGates lists the gates with their state, for documents and metrics.
func FeatureGates() []Gate { return append([]Gate(nil), gates...) }
