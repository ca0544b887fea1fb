// Command parse says what Traefik's file provider makes of files of dynamic configuration. It has no
// parser of its own: each path is handed to the provider, templates and all, and what the provider
// hands on, or why it does not, is printed as one line of JSON.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/rs/zerolog"
	"github.com/rs/zerolog/log"
	"github.com/traefik/traefik/v3/pkg/config/dynamic"
	"github.com/traefik/traefik/v3/pkg/provider/file"
	"github.com/traefik/traefik/v3/pkg/safe"
)

// What the exit code says.
const (
	exitRefused = 1
	exitUsage   = 2
)

const usage = `it is called as
  parse PATH...    files, or folders to be read as Traefik reads a directory
  parse [-]        one file's content from standard input
  parse --paths    paths from standard input, one a line, each answered at once`

type result struct {
	File          string                 `json:"file"`
	Error         string                 `json:"error,omitempty"`
	Configuration *dynamic.Configuration `json:"configuration,omitempty"`
}

func main() {
	log.Logger = zerolog.New(os.Stderr).Level(zerolog.WarnLevel).With().Timestamp().Logger()
	zerolog.DefaultContextLogger = &log.Logger

	refused, err := run(os.Args[1:])
	switch {
	case err != nil:
		fmt.Fprintf(os.Stderr, "parse: %v\n", err)
		os.Exit(exitUsage)
	case refused:
		os.Exit(exitRefused)
	}
}

func run(args []string) (bool, error) {
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)

	switch {
	case len(args) == 0 || len(args) == 1 && args[0] == "-":
		answer, err := parseStdin()
		if err != nil {
			return false, err
		}
		return answer.Error != "", out.Encode(answer)
	case len(args) == 1 && args[0] == "--paths":
		return parseList(out)
	}
	for _, arg := range args {
		if strings.HasPrefix(arg, "-") {
			return false, errors.New(usage)
		}
	}
	return parseAll(args, out)
}

// parseAll answers in the order of the paths and works on as many as there are processors.
func parseAll(paths []string, out *json.Encoder) (bool, error) {
	answers := make([]chan result, len(paths))
	for i := range answers {
		answers[i] = make(chan result, 1)
	}
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		go func() {
			for i := range next {
				answers[i] <- parse(paths[i])
			}
		}()
	}
	go func() {
		for i := range paths {
			next <- i
		}
		close(next)
	}()

	refused := false
	for _, answer := range answers {
		answer := <-answer
		refused = refused || answer.Error != ""
		if err := out.Encode(answer); err != nil {
			return refused, err
		}
	}
	return refused, nil
}

func parseList(out *json.Encoder) (bool, error) {
	refused := false
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		answer := parse(lines.Text())
		refused = refused || answer.Error != ""
		if err := out.Encode(answer); err != nil {
			return refused, err
		}
	}
	return refused, lines.Err()
}

// parseStdin goes through a file because the provider reads nothing else.
func parseStdin() (result, error) {
	folder, err := os.MkdirTemp("", "parse")
	if err != nil {
		return result{}, err
	}
	defer os.RemoveAll(folder)

	content, err := io.ReadAll(os.Stdin)
	if err != nil {
		return result{}, err
	}
	path := filepath.Join(folder, "stdin.yaml")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return result{}, err
	}
	answer := parse(path)
	answer.File = "-"
	return answer, nil
}

func parse(path string) result {
	configuration, err := provide(path)
	if err != nil {
		return result{File: path, Error: err.Error()}
	}
	return result{File: path, Configuration: configuration}
}

// provide lets the provider read once, unwatched, as it does when Traefik starts.
func provide(path string) (configuration *dynamic.Configuration, err error) {
	// Traefik would stop at such a panic; here the next file is still to come.
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v", cause)
		}
	}()

	provider := &file.Provider{Filename: path}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		provider = &file.Provider{Directory: path}
	} else if !readable(path) {
		return nil, fmt.Errorf("unsupported file extension for file %s", path)
	}

	pool := safe.NewPool(context.Background())
	defer pool.Stop()
	messages := make(chan dynamic.Message, 1)
	if err := provider.Provide(messages, pool); err != nil {
		return nil, err
	}
	return (<-messages).Configuration, nil
}

// readable is asked here because the provider asks it only of files that it watches, which is what
// Traefik does unless it is told otherwise.
func readable(path string) bool {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".toml", ".yaml", ".yml":
		return true
	}
	return false
}
