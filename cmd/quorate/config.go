package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"quorate.dev/quorate/config"
)

// configCommand prints settings as a config file, and makes and checks such files.
func configCommand(code *int) *cobra.Command {
	c := &cobra.Command{Use: "config [flags]", Short: "Print the settings that these flags make, as a config file; make and check config files", DisableFlagParsing: true,
		Run: func(_ *cobra.Command, args []string) { *code = printConfig(args) }}
	c.AddCommand(
		&cobra.Command{Use: "init [FILE]", Short: "Write a config file with every setting, its default and what it does", Args: cobra.MaximumNArgs(1),
			Long: `Write a config file with every setting, its default and what it does, all of it commented out.

Without FILE it goes to the standard output. A FILE that is there already is not touched.`,
			Run: func(_ *cobra.Command, args []string) { *code = initConfig(os.Stdout, os.Stderr, args) }},
		checkConfigCommand(code))
	return c
}

func checkConfigCommand(code *int) *cobra.Command {
	format := ""
	c := &cobra.Command{Use: "check FILE", Short: "Say everything that is wrong with a config file", Args: cobra.ExactArgs(1),
		Long: `Say everything that is wrong with a config file: keys and values, settings that contradict each other, and certificates.

The exit code is 1 when the server would not start with it, or not be reached; warnings alone give 0.`,
		RunE: func(_ *cobra.Command, args []string) error {
			if format != "simple" && format != "json" {
				return fmt.Errorf("unknown output format %q: use simple or json", format)
			}
			*code = checkConfig(os.Stdout, os.Stderr, args[0], format == "json", time.Now())
			return nil
		}}
	c.Flags().StringVarP(&format, "write-out", "w", "simple", "output format: simple or json")
	return c
}

// initConfig writes the template, to a new file if there is an argument.
func initConfig(out, complaints io.Writer, args []string) int {
	if len(args) == 0 {
		if _, err := io.WriteString(out, config.Template()); err != nil {
			fmt.Fprintf(complaints, "quorate config init: %v\n", err)
			return 1
		}
		return 0
	}
	if err := writeNew(args[0], config.Template()); err != nil {
		hint := ""
		if errors.Is(err, fs.ErrExist) {
			hint = "; name another file, or remove this one first"
		}
		fmt.Fprintf(complaints, "quorate config init: %v%s\n", err, hint)
		return 1
	}
	fmt.Fprintf(out, "%s has every setting, commented out. Start with: quorate serve --config-file %s\n", args[0], args[0])
	return 0
}

// writeNew writes a file that must not be there yet. It leaves none behind when it fails.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // it may come to hold a password
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// checkConfig prints the problems of a file.
func checkConfig(out, complaints io.Writer, path string, asJSON bool, now time.Time) int {
	text, err := os.ReadFile(path)
	if err != nil {
		fmt.Fprintf(complaints, "quorate config check: %v\n", err)
		return 1
	}
	problems := config.Check(text, os.ReadFile, now)
	if asJSON {
		err = json.NewEncoder(out).Encode(append([]config.Problem{}, problems...)) // [] for none, not null
	} else {
		err = printProblems(out, path, problems)
	}
	if err != nil {
		fmt.Fprintf(complaints, "quorate config check: %v\n", err)
		return 1
	}
	if config.HasErrors(problems) {
		return 1
	}
	return 0
}

// printProblems writes a line for each, in the form that editors understand.
func printProblems(out io.Writer, path string, problems []config.Problem) error {
	wrong := 0
	for _, p := range problems {
		where, kind, fix := path, "error", ""
		if p.Line > 0 {
			where += fmt.Sprintf(":%d", p.Line)
		}
		if p.Warning {
			kind = "warning"
		} else {
			wrong++
		}
		if p.Fix != "" {
			fix = " (" + p.Fix + ")"
		}
		if _, err := fmt.Fprintf(out, "%s: %s: %s%s\n", where, kind, p.Text, fix); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(out, "%s: %d errors, %d warnings\n", path, wrong, len(problems)-wrong)
	return err
}
