package main

import (
	"context"
	"io"
	"os"

	"golang.org/x/term"
)

// interruptible is standard input, whose reading ends with an interrupt, too: what waits for a
// person or another program would otherwise not notice it.
type interruptible struct {
	ctx context.Context
	r   io.Reader
	buf []byte
}

// Read implements io.Reader. A read that an interrupt has overtaken goes on until the process ends,
// into a buffer that nobody else uses; no other is begun then.
func (i *interruptible) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	if len(i.buf) < len(p) {
		i.buf = make([]byte, len(p))
	}
	type result struct {
		n   int
		err error
	}
	done, buf := make(chan result, 1), i.buf[:len(p)]
	go func() {
		n, err := i.r.Read(buf)
		done <- result{n, err}
	}()
	select {
	case x := <-done:
		return copy(p, buf[:x.n]), x.err
	case <-i.ctx.Done():
		return 0, i.ctx.Err()
	}
}

// useStdin makes f the standard input of a command. interrupt ends ctx.
func (a *app) useStdin(ctx context.Context, f *os.File, interrupt func()) {
	a.stdin, a.interrupt = &interruptible{ctx: ctx, r: f}, interrupt
	if term.IsTerminal(int(f.Fd())) {
		a.terminal = f
	}
}

// Keys that a line without echo knows.
const (
	keyInterrupt = 3   // Ctrl-C
	keyEnd       = 4   // Ctrl-D
	keyBack      = 8   // Ctrl-H
	keyKill      = 21  // Ctrl-U
	keyDelete    = 127 // what most terminals send for backspace
)

// maxSecret bounds a line without echo.
const maxSecret = 4096

// readSecret reads a line from the terminal without echo. The terminal is as before afterwards,
// also after an interrupt.
func (a *app) readSecret() (_ []byte, err error) {
	before, err := term.MakeRaw(int(a.terminal.Fd()))
	if err != nil {
		return nil, err
	}
	defer func() {
		if restored := term.Restore(int(a.terminal.Fd()), before); err == nil {
			err = restored
		}
	}()
	return secretLine(a.stdin, a.interrupt)
}

// secretLine reads a line as a terminal sends it that does nothing with its keys.
func secretLine(in io.Reader, interrupt func()) (line []byte, err error) {
	for key := make([]byte, 1); ; {
		n, err := in.Read(key)
		if n == 0 {
			if err == nil {
				continue
			}
			if err == io.EOF && len(line) > 0 {
				return line, nil
			}
			return nil, err
		}
		switch key[0] {
		case '\r', '\n':
			return line, nil
		case keyInterrupt:
			interrupt()
			return nil, context.Canceled
		case keyEnd:
			if len(line) == 0 {
				return nil, io.EOF
			}
			return line, nil
		case keyBack, keyDelete:
			line = withoutLast(line)
		case keyKill:
			line = line[:0]
		default:
			if len(line) < maxSecret {
				line = append(line, key[0])
			}
		}
	}
}

// withoutLast takes the last character off, which may be of several bytes.
func withoutLast(line []byte) []byte {
	end := len(line)
	for end > 0 {
		end--
		if line[end]&0xc0 != 0x80 {
			break
		}
	}
	return line[:end]
}
