package migrating

import (
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"quorate.dev/quorate/migrate"
)

// show shows a verdict to a person.
func show(w io.Writer, v *migrate.Verdict) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MEMBER\tWHERE\tRAFT INDEX\tBEHIND")
	for _, m := range v.Members {
		name := m.Name
		if name == "" && m.ID != 0 {
			name = strconv.FormatUint(m.ID, 16)
		}
		if name == "" {
			name = "-"
		}
		index, behind := strconv.FormatUint(m.Index, 10), strconv.FormatUint(m.Behind, 10)
		if m.Problem != "" {
			index, behind = "-", "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", name, m.Where, index, behind)
	}
	t.Flush()
	if v.Converged {
		fmt.Fprintln(w, "converged: the members may be stopped and migrated, as long as nobody writes")
		return
	}
	fmt.Fprintln(w, "NOT converged:")
	for _, f := range v.Findings {
		fmt.Fprintln(w, "  "+f)
	}
	fmt.Fprintln(w, "do: "+v.Do)
}

// verdictOf is a verdict as JSON. Fields are only added.
type verdictOf struct {
	Converged bool       `json:"converged"`
	Members   []memberOf `json:"members"`
	Findings  []string   `json:"findings"`
	Do        string     `json:"do,omitempty"`
}

type memberOf struct {
	ID        string `json:"id,omitempty"` // hexadecimal
	Name      string `json:"name,omitempty"`
	Where     string `json:"where"`
	RaftIndex uint64 `json:"raftIndex"`
	Behind    uint64 `json:"behind"`
	Problem   string `json:"problem,omitempty"`
}

func verdictJSON(v *migrate.Verdict) verdictOf {
	out := verdictOf{Converged: v.Converged, Findings: v.Findings, Do: v.Do}
	for _, m := range v.Members {
		id := ""
		if m.ID != 0 {
			id = strconv.FormatUint(m.ID, 16)
		}
		out.Members = append(out.Members, memberOf{id, m.Name, m.Where, m.Index, m.Behind, m.Problem})
	}
	return out
}
