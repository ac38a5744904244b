"""`make torture`: a whole fleet in a storm of kills, pauses and outages, and what became of every mail.

The product's own parts run: producers, supervisors, undertakers, worker processes, the catching server as the receiving
side, a real PostgreSQL and a real RabbitMQ. Only how a worker process comes to life is ours: a fork instead of a new
program, because to import the code takes a second of processor time and workers here live for one.
"""
