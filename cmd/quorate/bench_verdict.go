package main

import (
	"runtime"
	"slices"

	"quorate.dev/quorate/cli/verdict"
	"quorate.dev/quorate/load"
)

// writers are the workloads whose operations are writes.
var writers = []string{"put", "txn", "fill", "lease-grant"}

// judged says what a run's numbers mean.
func judged(res *load.Result, servers []verdict.Server) verdict.Verdict {
	m := verdict.Measured{
		Writes: slices.Contains(writers, res.Workload), Rate: res.Rate, Asked: res.TargetRate, Clients: res.Clients,
		Mean: res.Latency.Mean / 1e3, P99: res.Latency.P99 / 1e3, ClientBusy: verdict.Unknown, Servers: servers,
	}
	if all := res.Operations + res.Errors; all > 0 {
		m.ErrorPart = float64(res.Errors) / float64(all)
	}
	if cpu, ok := res.Extra["client_cpu_seconds"]; ok && res.Seconds > 0 {
		m.ClientBusy = cpu / res.Seconds / float64(runtime.GOMAXPROCS(0))
	}
	return verdict.Of(m)
}
