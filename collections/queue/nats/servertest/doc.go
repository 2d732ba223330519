// Package servertest holds package nats against a NATS server within the tests' process. It is a
// module of its own, so that the server is none of Skerry's dependencies; .ci/services runs it.
package servertest
