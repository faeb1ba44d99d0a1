package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"quorate.dev/quorate/config"
	"quorate.dev/quorate/server"
)

// healCommand is "quorate heal". code becomes the exit code.
func healCommand(code *int) *cobra.Command {
	var m config.Member
	c := &cobra.Command{
		Use:   "heal --data-dir DIR",
		Short: "Have a stopped member take its data from the others when it starts",
		Long: `Mark the data directory of a stopped member whose data is damaged or differs from that of the others. When the member is started
again, with the flags that it always has, it fetches the leader's data before it does anything else, and takes back the
CORRUPT alarm that names it. It stays the same member: identity, vote and log are kept.`,
		Example: "  quorate heal --data-dir /var/lib/quorate",
		Args:    cobra.NoArgs,
		Run: func(*cobra.Command, []string) {
			text, err := server.Heal(m, zap.NewNop())
			if err != nil {
				fmt.Fprintf(os.Stderr, "quorate heal: %v\n", err)
				*code = 1
				return
			}
			fmt.Print(text)
		},
	}
	c.Flags().StringVar(&m.DataDir, "data-dir", "", "data directory of the member (required)")
	c.Flags().StringVar(&m.WALDir, "wal-dir", "", "directory of its log, if that is kept apart")
	_ = c.MarkFlagRequired("data-dir")
	return c
}
