module appxmpp/tests/bench

go 1.21

require appxmpp/capi/go v0.0.0

replace appxmpp/capi/go => ../../../../capi/go
