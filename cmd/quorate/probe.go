package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// probe asks a member whether it is well, for a container that has nothing else to ask with.
type probe struct {
	ca, cert, key string
	insecure      bool
	timeout       time.Duration
}

// probeURL is asked when no other is given.
const probeURL = "http://127.0.0.1:2379/livez"

func probeCommand(code *int) *cobra.Command {
	var p probe
	c := &cobra.Command{Use: "probe [URL]", Short: "Ask a member whether it is well, by its page /livez, /readyz or /health", Args: cobra.MaximumNArgs(1),
		Long: `Ask a member whether it is well. The exit code is 0 when the page answers with status 200, and 1 otherwise.

Without a URL it asks ` + probeURL + `. It is for health checks of containers that have no other program.`,
		Run: func(c *cobra.Command, args []string) {
			url := probeURL
			if len(args) > 0 {
				url = args[0]
			}
			if err := p.ask(c.Context(), url, os.Stdout); err != nil {
				fmt.Fprintf(os.Stderr, "quorate probe: %v\n", err)
				*code = 1
			}
		}}
	f := c.Flags()
	f.StringVar(&p.ca, "cacert", "", "file of the CA certificates that the member's must lead to")
	f.StringVar(&p.cert, "cert", "", "file of the certificate shown to the member")
	f.StringVar(&p.key, "key", "", "file of its key")
	f.BoolVar(&p.insecure, "insecure-skip-tls-verify", false, "accept any certificate of the member")
	f.DurationVar(&p.timeout, "timeout", 4*time.Second, "how long to wait")
	return c
}

// ask gets the page and writes what it says.
func (p *probe) ask(ctx context.Context, url string, out io.Writer) error {
	if ctx == nil {
		ctx = context.Background()
	}
	conf, err := p.tls()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	web := http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
	resp, err := web.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s: %s", url, resp.Status, strings.TrimSpace(string(text)))
	}
	_, err = out.Write(text)
	return err
}

func (p *probe) tls() (*tls.Config, error) {
	conf := &tls.Config{InsecureSkipVerify: p.insecure}
	if p.ca != "" {
		text, err := os.ReadFile(p.ca)
		if err != nil {
			return nil, fmt.Errorf("--cacert: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--cacert: there is no certificate in %s", p.ca)
		}
	}
	if p.cert != "" || p.key != "" {
		pair, err := tls.LoadX509KeyPair(p.cert, p.key)
		if err != nil {
			return nil, fmt.Errorf("--cert, --key: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}
