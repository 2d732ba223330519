package main

import (
	"fmt"
	"os"
	"runtime/debug"
)

// caught ends the process with one sentence after a fault of the program itself. What helps to find
// the fault goes to a file that only the user can read.
func (a *app) caught(code *int) {
	r := recover()
	if r == nil {
		return
	}
	*code = 1
	report := fmt.Sprintf("skerry %s\n%v\n\n%s", versionText(), r, debug.Stack())
	where := "it could not be written down"
	if f, err := os.CreateTemp("", "skerry-report-*.txt"); err == nil { // mode 0600
		_, err = f.WriteString(report)
		if closeErr := f.Close(); err == nil && closeErr == nil {
			where = "a report is in " + f.Name()
		}
	}
	a.stderr.problem(fmt.Errorf("a fault in skerry itself ended the command; %s", where))
}
