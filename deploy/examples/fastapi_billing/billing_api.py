#!/usr/bin/env python3
"""Billing over HTTP, on FastAPI and SQLAlchemy: an invoice and its mail are written in one transaction.

    POST /invoices              {"customer": "ada@example.net", "cents": 1900}: an invoice with its mail, or neither
    GET  /invoices/{number}     the invoice, and how far its mail is

EXAMPLE_DATABASE_URL_FILE is a file with the URL of the application's database, which mailfleet's tables are in as well;
EXAMPLE_ACCOUNT is the account that its mails are sent through, if not `default`; MAILFLEET_... are mailfleet's own settings.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy import URL, func, make_url, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.schema import CreateSchema

from mailfleet import AsyncMailer, Attachment, InvalidMail, Mail

#: Nobody may owe more than this.
CREDIT_CENTS = 500_000


class Base(DeclarativeBase):
    """The application's tables; mailfleet's are none of them."""


class Invoice(Base):
    """What somebody has to pay, in cents, and the mail that says so."""

    __tablename__ = "invoice"
    __table_args__ = {"schema": "billing_api"}  # noqa: RUF012 - as SQLAlchemy wants it

    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
    cents: Mapped[int]
    mail_id: Mapped[int | None]


class NewInvoice(BaseModel):
    """What a client sends."""

    customer: str
    cents: int = Field(gt=0)


class Told(BaseModel):
    """How far the mail is: `queued`, `sent`, `failed`…, and why."""

    state: str
    reason: str | None


class Shown(BaseModel):
    """What a client is answered."""

    number: int
    customer: str
    cents: int
    mail: Told


def database_url() -> URL:
    """Where the application's tables are, and mailfleet's beside them."""
    url = make_url(Path(os.environ["EXAMPLE_DATABASE_URL_FILE"]).read_text(encoding="utf-8").strip())
    return url.set(drivername="postgresql+psycopg")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open what the application needs, and close it; the mailer publishes what is committed before it goes."""
    engine = create_async_engine(database_url(), pool_pre_ping=True)
    async with engine.begin() as connection:
        await connection.execute(CreateSchema("billing_api", if_not_exists=True))
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncMailer.from_env(app="billing") as mailer:
        app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
        app.state.mailer = mailer
        yield
    await engine.dispose()


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    """A session in a transaction that is committed when the request went well, and rolled back otherwise."""
    async with request.app.state.sessions() as session, session.begin():
        yield session


def the_mailer(request: Request) -> AsyncMailer:
    """The mailer of this process."""
    mailer: AsyncMailer = request.app.state.mailer
    return mailer


Transaction = Annotated[AsyncSession, Depends(open_session, scope="function")]
TheMailer = Annotated[AsyncMailer, Depends(the_mailer)]

app = FastAPI(title="Billing", lifespan=lifespan)


@app.exception_handler(InvalidMail)
async def invalid(_request: Request, error: InvalidMail) -> JSONResponse:
    """What mailfleet refuses is the client's mistake: the customer's address."""
    return JSONResponse({"detail": str(error)}, status_code=422)


@app.post("/invoices", status_code=201)
async def write_invoice(new: NewInvoice, session: Transaction, mailer: TheMailer) -> dict[str, int]:
    """Write an invoice and its mail; when this raises, neither is there."""
    invoice = Invoice(customer=new.customer, cents=new.cents)
    session.add(invoice)
    await session.flush()  # now it has a number
    euros = f"{invoice.cents // 100}.{invoice.cents % 100:02d}"
    table = Attachment(f"invoice-{invoice.id}.csv", f"number,euros\n{invoice.id},{euros}\n".encode())
    invoice.mail_id = await mailer.emit(
        Mail(
            from_="Billing <billing@billing.example>",
            to=invoice.customer,
            subject=f"Invoice {invoice.id}",
            text=f"Please pay {euros} EUR. The details are attached.\n",
            attachments=[table],
            account=os.environ.get("EXAMPLE_ACCOUNT"),
            ref=("invoice", str(invoice.id), ""),
        ),
        session=session,
    )
    owed = await session.scalar(select(func.sum(Invoice.cents)).where(Invoice.customer == invoice.customer))
    if (owed or 0) > CREDIT_CENTS:
        raise HTTPException(409, f"{invoice.customer} owes too much already")
    return {"number": invoice.id}


@app.get("/invoices/{number}")
async def show_invoice(number: int, session: Transaction, mailer: TheMailer) -> Shown:
    """The invoice, and how far its mail is."""
    invoice = await session.get(Invoice, number)
    if invoice is None or invoice.mail_id is None:
        raise HTTPException(404, f"there is no invoice {number}")
    status = await mailer.status(invoice.mail_id)
    mail = Told(state=status.state.value, reason=status.reason)
    return Shown(number=invoice.id, customer=invoice.customer, cents=invoice.cents, mail=mail)


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=8000)
