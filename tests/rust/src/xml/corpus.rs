/// Documents to start from: stanzas as servers write them, and every construct of XML that matters.
pub const CORPUS: &[&str] = &[
    "<message xmlns='jabber:component:accept' from='a@b/c' to='bot@app.example/r' type='chat' id='1'><body>hello</body></message>",
    "<message xmlns='jabber:client' from='a@b/c' xml:lang='en'><body>a &amp; b &lt; c &#x41;&#66;</body><thread>t</thread><active xmlns='http://jabber.org/protocol/chatstates'/></message>",
    "<presence xmlns='jabber:client' from='a@b/c'><show>away</show><status>gone\r\nfishing</status><priority>5</priority><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='v='/></presence>",
    "<iq xmlns='jabber:client' type='get' id='x'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>",
    "<x:message xmlns:x='jabber:component:accept' x:a='1' a='2'><x:body>prefixed</x:body><y xmlns='urn:y'><x:z/></y></x:message>",
    "<message xmlns='jabber:component:accept'><forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='2010-07-10T23:08:25Z'/><message xmlns='jabber:client' to='j@e'><body>in</body></message></forwarded></message>",
    "<message xmlns='jabber:client' type='error'><body>x</body><error type='cancel' by='e'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>xmpp:a@b</gone><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>moved</text></error></message>",
    "<a><![CDATA[x < y & z ]] ]]></a>",
    "<a>]] > ]&gt; ]]&gt;</a>",
    "<a b='&quot;&apos;&#9;&#10;' c=\"it's\"/>",
    "<a b = 'x'\n\tc\n=\n\"y\" ></a >",
    "<p:a xmlns:p='urn:p' xmlns:q='urn:p' p:x='1' q:y='2'/>",
    "<a xmlns='urn:a'><b xmlns=''><c xmlns='urn:c'/></b><d/></a>",
    "<é·a xmlns:日='urn:j' 日:本='1'>\u{1f389}\u{fffd}\u{10ffff}</é·a>",
    "<a><b><c><d><e><f><g/></f></e></d></c></b></a>",
    "<a xml:lang='de' xml:space='preserve'> <b xml:lang=''/> </a>",
    "<a a='1' b='2' c='3' d='4' e='5' f='6' g='7' h='8' i='9' j='10' k='11' l='12' m='13'/>",
    "<cli:message xmlns:cli='jabber:client'><cli:body>b</cli:body><x xmlns='urn:x'/></cli:message>",
    "<x:message xmlns:x='jabber:component:accept' xmlns='urn:d'><own/><x:body>b<own/></x:body></x:message>",
    "<message xmlns='jabber:component:accept'><p:w xmlns:p='urn:p'><body>nested</body></p:w><body xmlns='jabber:component:accept'>again</body></message>",
    "<message xmlns='jabber:component:accept'><body>one</body><body xml:lang='de'>zwei</body><html xmlns='http://jabber.org/protocol/xhtml-im'><body xmlns='http://www.w3.org/1999/xhtml'><p style='font-weight:bold'>hi</p></body></html></message>",
];

/// Whole streams, for framing.
pub const STREAMS: &[&str] = &[
    "<?xml version='1.0'?><stream:stream xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:component:accept' id='42' from='app.example'><handshake/> \n<message to='a@b'><body>a&amp;b</body></message><presence/><iq type='get' id='1'><query xmlns='q'/></iq>\n</stream:stream>",
    "<stream:stream xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:client' version='1.0' xml:lang='en'><stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms></stream:features><message a='>' b=\"/>\"><![CDATA[</message>]]]]><x y='/'/></message></stream:stream>",
    " \n<s:stream xmlns:s=\"http://etherx.jabber.org/streams\" xmlns:c='jabber:client'><c:message><c:body/></c:message><s:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></s:error></s:stream >",
    "<stream xmlns='http://etherx.jabber.org/streams'/>",
];
