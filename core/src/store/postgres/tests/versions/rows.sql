-- What each version wrote, for the app bot.example.com; QUEUE is that, or with the number of the process that is gone.
INSERT INTO contact VALUES
    ('bot@bot.example.com', 'friend@example.com', 8, 2, false, 1, 'caf\303\251'),
    ('bot@bot.example.com', 'asked@example.com', 1, NULL, NULL, NULL, NULL),
    ('bot@bot.example.com', 'nul\000@example.com', 2, NULL, true, 0, '');
-- Three messages in two rows: the first of them is done, the last shares its end with others of its call.
INSERT INTO outbox VALUES
    ('QUEUE', 4, 5, 9000000000000, '\x0400000004000000', '<a/><b/>', ''),
    ('QUEUE', 6, 6, 9000000000000, '\x02000000', '<c', '/>');
INSERT INTO outbox_done VALUES ('QUEUE', 4);
INSERT INTO inbox (queue, id, path, stanza) VALUES
    ('QUEUE', 7696581394433, '/_ah/xmpp/message/chat/', '<message from=''c@example.com/x'' to=''bot@bot.example.com'' type=''chat''><body>2</body></message>'),
    ('QUEUE', 7696581394432, '/_ah/xmpp/message/chat/', '<message from=''c@example.com/x'' to=''bot@bot.example.com'' type=''chat''><body>1</body></message>');
INSERT INTO dead_letter (queue, id, path, stanza, given_up, reason) VALUES
    ('bot.example.com', 7696581394431, '/_ah/xmpp/message/chat/', '<message from=''d@example.com/x'' to=''bot@bot.example.com'' type=''chat''><body>0</body></message>', 1728000000123, 'no answer');
INSERT INTO count VALUES ('bot.example.com', 'invitations_sent', 20000, 2);
