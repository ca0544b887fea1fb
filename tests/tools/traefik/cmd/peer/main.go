// Command peer runs Traefik's own Kubernetes Ingress provider alone and prints what it makes of the
// objects of an API server: one configuration, one line of JSON. It is what waybill is compared with.
//
// Options are the provider's own, spelled as behind "providers.kubernetesingress." on Traefik's
// command line, and read by Traefik's own parser; the tests' README lists the few that peer adds.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/rs/zerolog/log"
	"github.com/traefik/paerser/flag"
	"github.com/traefik/traefik/v3/pkg/config/dynamic"
	"github.com/traefik/traefik/v3/pkg/provider/kubernetes/ingress"
	"github.com/traefik/traefik/v3/pkg/safe"
	"github.com/traefik/traefik/v3/pkg/types"
)

// What the exit code says.
const (
	exitFailed   = 1
	exitUsage    = 2
	exitNoAnswer = 3
)

type options struct {
	provider ingress.Provider
	once     bool
	settle   time.Duration
	wait     time.Duration
	logLevel zerolog.Level
}

type line struct {
	Seq           int                    `json:"seq"`
	CPUMillis     int64                  `json:"cpu_ms"`
	ElapsedMillis int64                  `json:"elapsed_ms"`
	Configuration *dynamic.Configuration `json:"configuration"`
}

func main() {
	opts, err := parseOptions(os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "peer: %v\n", err)
		os.Exit(exitUsage)
	}
	log.Logger = zerolog.New(os.Stderr).Level(opts.logLevel).With().Timestamp().Logger()
	zerolog.DefaultContextLogger = &log.Logger

	// The provider would rather believe these than its options, and it writes statuses. A test must
	// never reach a cluster that the person running it happens to be logged in to.
	for _, name := range []string{"KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"} {
		os.Unsetenv(name)
	}

	code, err := run(opts)
	if err != nil {
		fmt.Fprintf(os.Stderr, "peer: %v\n", err)
	}
	os.Exit(code)
}

func run(opts *options) (int, error) {
	start := time.Now()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if !opts.once {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			stop()
		}()
	}

	messages := make(chan dynamic.Message)
	if err := opts.provider.Init(); err != nil {
		return exitFailed, err
	}
	if err := opts.provider.Provide(messages, safe.NewPool(ctx)); err != nil {
		return exitFailed, err
	}

	// Only --once ever ends by the clock.
	var quiet <-chan time.Time
	if opts.once {
		quiet = time.After(opts.wait)
	}

	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for seq := 1; ; seq++ {
		select {
		case <-ctx.Done():
			return 0, nil
		case <-quiet:
			if seq == 1 {
				return exitNoAnswer, fmt.Errorf("no configuration within %s", opts.wait)
			}
			return 0, nil
		case message := <-messages:
			answer := line{
				Seq:           seq,
				CPUMillis:     cpuMillis(),
				ElapsedMillis: time.Since(start).Milliseconds(),
				Configuration: message.Configuration,
			}
			if err := readCertificates(message.Configuration); err != nil {
				return exitFailed, err
			}
			if err := out.Encode(answer); err != nil {
				return exitFailed, err
			}
			if opts.once {
				quiet = time.After(opts.settle)
			}
		}
	}
}

// parseOptions takes out what is peer's and leaves the rest to Traefik's own parser.
func parseOptions(args []string) (*options, error) {
	opts := &options{settle: 1500 * time.Millisecond, wait: 30 * time.Second, logLevel: zerolog.WarnLevel}

	own := map[string]func(string) error{
		"once":              func(string) error { opts.once = true; return nil },
		"settle":            func(v string) (err error) { opts.settle, err = time.ParseDuration(v); return },
		"wait":              func(v string) (err error) { opts.wait, err = time.ParseDuration(v); return },
		"log.level":         func(v string) (err error) { opts.logLevel, err = zerolog.ParseLevel(strings.ToLower(v)); return },
		"defaultrulesyntax": func(v string) error { opts.provider.DefaultRuleSyntax = v; return nil },
	}

	// As Traefik has it when its option core.defaultRuleSyntax is not touched.
	opts.provider.DefaultRuleSyntax = "v3"

	var theirs []string
	for i := 0; i < len(args); i++ {
		name, value, joined := strings.Cut(args[i], "=")
		if !strings.HasPrefix(name, "--") {
			return nil, fmt.Errorf("%q is no option", args[i])
		}
		name = strings.ToLower(strings.TrimPrefix(name, "--"))
		set, ours := own[name]
		if ours && !joined && name != "once" {
			i++
			if i == len(args) {
				return nil, fmt.Errorf("--%s needs a value", name)
			}
			value = args[i]
		}
		switch {
		case ours:
			if err := set(value); err != nil {
				return nil, fmt.Errorf("--%s: %w", name, err)
			}
		case joined || i+1 == len(args) || strings.HasPrefix(args[i+1], "--"):
			theirs = append(theirs, args[i])
		default:
			// An argument of its own that follows can only be this option's value.
			i++
			theirs = append(theirs, args[i-1]+"="+args[i])
		}
	}

	if err := flag.Decode(theirs, &opts.provider); err != nil {
		return nil, err
	}
	if opts.provider.Endpoint == "" {
		return nil, errors.New("--endpoint is needed")
	}
	return opts, nil
}

// readCertificates puts the content where the configuration may name a file.
func readCertificates(configuration *dynamic.Configuration) error {
	if configuration == nil || configuration.TLS == nil {
		return nil
	}
	for _, pair := range configuration.TLS.Certificates {
		for _, field := range []*types.FileOrContent{&pair.Certificate.CertFile, &pair.Certificate.KeyFile} {
			content, err := field.Read()
			if err != nil {
				return err
			}
			*field = types.FileOrContent(content)
		}
	}
	return nil
}

// cpuMillis is the processor time that this process has used since it was started.
func cpuMillis() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return (usage.Utime.Nano() + usage.Stime.Nano()) / int64(time.Millisecond)
}
