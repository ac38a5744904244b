"""How RabbitMQ stands, compared with what mailfleet declares: for `mailfleet broker`.

`connect` opens a connection or says in one line why not, `amqp` looks through it, `management` and `documents` look
through the management plugin's HTTP API, `judge` turns all of it into findings. Nothing here is needed to send mail.
"""
