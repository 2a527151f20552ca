"""A plan as it is printed: whole for one run, a line each for several."""

from collections.abc import Iterator, Sequence

from ktr.plan.memory import GIB
from ktr.plan.plan import Plan


def plan_text(plan: Plan) -> str:
    """The whole plan of one run."""
    return "\n".join([*_head(plan), "", *_memory(plan), "", *_passes(plan), "", *_verdict(plan)])


def plan_lines(plans: Sequence[Plan]) -> str:
    """A Markdown table with a line a run, and what all of them take together."""
    head = ["run", "GPUs", "GiB a GPU", "fits", "s a step", "hours", "GPU-hours", "what makes it fit"]
    rows = [head, ["---"] * len(head)]
    for plan in plans:
        hours = "" if plan.hours is None else _number(plan.hours)
        total = "" if plan.hours is None else _number(plan.hours * plan.run.num_gpus)
        remedy = " ".join(remedy.words for remedy in plan.remedies[0]) if plan.remedies else ""
        if not plan.memory.fits and not remedy:
            remedy = "nothing that was tried"
        fits = "yes" if plan.memory.fits else "no"
        gpus = str(plan.run.num_gpus)
        rows.append([plan.run.name, gpus, _gib(plan.memory.peak), fits, _number(plan.seconds), hours, total, remedy])
    spent = sum((plan.hours or 0.0) * plan.run.num_gpus for plan in plans)
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", f"{len(plans)} runs, {_number(spent)} GPU-hours on {plans[0].card.name}"])


def _head(plan: Plan) -> Iterator[str]:
    run, options = plan.run, plan.options
    total = sum(p.count for p in plan.parameters)
    learned = sum(p.count for p in plan.parameters if p.is_trained)
    spread = "" if run.shard == 1 else f", weights and states over {run.shard}"
    nodes = "" if run.num_nodes == 1 else f" on {run.num_nodes} nodes"
    yield f"{run.name}: {run.num_gpus} × {plan.card.name}{nodes}{spread}"
    yield (
        f"{run.model_path.name}: {total / 1e9:.2f} B parameters, {learned / 1e9:.2f} B trained; {run.dtype}"
        f"{', computing in bfloat16' if run.is_mixed else ''}"
    )
    yield (
        f"{run.num_groups} questions a GPU and step, {run.num_completions} completions of {run.completion_tokens} "
        f"tokens (at most {run.max_tokens}) behind {run.prompt_tokens} of prompt, {run.visual_tokens} of them visual"
    )
    yield (
        f"assumed: {options.share:.0%} of peak operations, {options.bandwidth_share:.0%} of peak bandwidth, "
        f"{options.reserve_gib:g} GiB kept by CUDA and the allocator"
    )
    if plan.model.experts:
        yield "a mixture of experts: activations are estimated by the experts of a token"
    if run.cpu_offload:
        yield "trainer.strategy.cpu_offload=true: times leave out the optimizer on the host, and the way there and back"
    if not run.is_gpu:
        yield f"trainer.accelerator=cpu: times are those of a {plan.card.name}, and not of this machine"


def _memory(plan: Plan) -> Iterator[str]:
    spent = plan.memory
    yield f"{'memory of a GPU':<34}{'GiB':>8}"
    for name, size in spent.resident.items():
        yield f"  {name:<32}{_gib(size):>8}"
    for phase, parts in spent.phases.items():
        for name, size in parts.items():
            mark = "" if phase == spent.fullest else "  (less than the fullest phase)"
            yield f"  {f'{phase}: {name}':<32}{_gib(size):>8}{mark}"
    yield f"  {'at its fullest':<32}{_gib(spent.peak):>8}  of {_gib(spent.available)}"
    if spent.host:
        yield f"  {'in the memory of the host':<32}{_gib(spent.host):>8}  for each of its GPUs"


def _passes(plan: Plan) -> Iterator[str]:
    yield f"{'a step':<34}{'tokens':>10}{'TFLOP':>10}{'s':>9}"
    for one in plan.passes:
        tokens = f"{one.tokens:,}" if one.tokens else ""
        flops = f"{one.flops / 1e12:,.1f}" if one.flops else ""
        yield f"  {one.name:<32}{tokens:>10}{flops:>10}{_number(one.seconds):>9}"
    flops = sum(one.flops for one in plan.passes) / 1e12
    yield f"  {'all':<32}{'':>10}{flops:>10,.1f}{_number(plan.seconds):>9}"
    if plan.hours is not None:
        gpu_hours = plan.hours * plan.run.num_gpus
        yield f"{plan.run.num_updates} updates: {_number(plan.hours)} h, {_number(gpu_hours)} GPU-hours"


def _verdict(plan: Plan) -> Iterator[str]:
    spent = plan.memory
    if spent.fits:
        yield f"It fits, with {_gib(spent.available - spent.peak)} GiB to spare."
        return
    if spent.peak > spent.available:
        yield f"It does not fit: {_gib(spent.peak - spent.available)} GiB too much."
    if spent.engine_lacks > 0:
        yield f"vLLM's share is {_gib(spent.engine_lacks)} GiB short of its weights and one question."
    if not plan.remedies:
        yield f"No change that was tried makes it fit; a smaller model or a larger card than {plan.card.name} may."
        return
    yield "It fits with"
    for chosen in plan.remedies:
        others = any(remedy.changes_results for remedy in chosen)
        yield f"  {' '.join(remedy.words for remedy in chosen)}{'   (changes what is learned)' if others else ''}"


def _gib(size: float) -> str:
    return f"{size / GIB:,.1f}" if size >= 0.05 * GIB else f"{size / GIB:.3f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
