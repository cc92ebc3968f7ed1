"""python -m awsnet_train faces | fit | compare | evaluate | convert"""

import argparse
import json
import sys
from pathlib import Path

from .compare import compare, table
from .dataset import Labels, load_dataset
from .faces.write import ANNOTATIONS, write_faces
from .fit import evaluate, fit, labels_of, read_config
from .metrics import Metrics, measure_predictions
from .model_file import DTYPES, load_model, save_model


def identities(text: str) -> range:
    first, _, last = text.partition(":")
    if not (first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise argparse.ArgumentTypeError(f"expected FIRST:LAST with FIRST < LAST, found {text!r}")
    return range(int(first), int(last))


def report(metrics: Metrics, labels: Labels) -> str:
    lines = []
    if labels.emotions:
        lines.append(f"emotion accuracy {metrics.emotion_accuracy:.3f}, macro-F1 {metrics.emotion_macro_f1:.3f}")
    if labels.aus:
        each = ", ".join(f"{au} {f:.2f}" for au, f in metrics.au_f1.items())
        lines.append(f"mean AU F1 {metrics.au_mean_f1:.3f}: {each}")
    for name, ccc in metrics.values_ccc.items():
        lines.append(f"{name}: CCC {ccc:.3f}, mean absolute error {metrics.values_mae[name]:.3f}")
    if labels.emotions:
        lines.append(f"{'confusion':>10} " + " ".join(f"{emotion[:9]:>9}" for emotion in labels.emotions))
        for emotion, row in zip(labels.emotions, metrics.confusion, strict=True):
            lines.append(f"{emotion:>10} " + " ".join(f"{count:>9}" for count in row))
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    outer = argparse.ArgumentParser(prog="python -m awsnet_train")
    commands = outer.add_subparsers(dest="command", required=True)

    faces = commands.add_parser("faces", help="write a folder of synthetic faces with their labels")
    faces.add_argument("--out", type=Path, required=True)
    faces.add_argument("--count", type=int, required=True)
    faces.add_argument("--seed", type=int, default=0)
    faces.add_argument("--size", type=int, default=64, help="pixels a side")
    faces.add_argument("--identities", type=identities, default=range(600), help="FIRST:LAST, LAST not included")
    faces.add_argument("--annotation", choices=ANNOTATIONS, default="full")
    faces.add_argument("--zoom", type=float, default=1.0, help="1: the head fills the picture; less: room around it")

    training = commands.add_parser("fit", help="train a network; resumes where it was stopped")
    training.add_argument("--config", type=Path, required=True)

    comparison = commands.add_parser("compare", help="train with every sharing strategy and print a table")
    comparison.add_argument("--config", type=Path, required=True)
    comparison.add_argument("--seeds", type=int, default=3)

    evaluation = commands.add_parser("evaluate", help="measure a model file on a folder of faces")
    evaluation.add_argument("model", type=Path)
    evaluation.add_argument("faces", type=Path, help="a folder of faces, of folders, or a CSV file")
    evaluation.add_argument("--au-active", type=float, help="the intensity from which an AU is active (above 0)")
    evaluation.add_argument("--predictions", type=Path, help="measure these lines of `awsnet predict --json` instead")

    conversion = commands.add_parser("convert", help="write a model file with weights of another type")
    conversion.add_argument("model", type=Path)
    conversion.add_argument("out", type=Path)
    conversion.add_argument("--dtype", choices=DTYPES, default="f16")
    return outer


def run(arguments: argparse.Namespace) -> None:
    match arguments.command:
        case "faces":
            write_faces(
                arguments.out,
                arguments.count,
                arguments.seed,
                arguments.size,
                arguments.identities,
                arguments.annotation,
                arguments.zoom,
            )
        case "fit":
            fit(read_config(arguments.config))
        case "compare":
            print(table(compare(read_config(arguments.config), arguments.seeds)))
        case "convert":
            save_model(load_model(arguments.model), arguments.out, DTYPES[arguments.dtype])
        case "evaluate":
            network = load_model(arguments.model)
            labels, image = labels_of(network), network.structure.input
            data = load_dataset(
                arguments.faces, labels, (image.width, image.height), image.channels, arguments.au_active
            )
            if arguments.predictions is None:
                metrics = evaluate(network, data)
            else:
                lines = [json.loads(line) for line in arguments.predictions.read_text().splitlines()]
                metrics = measure_predictions(lines, data, list(labels.emotions), list(labels.aus))
            print(report(metrics, labels))


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0, or 1 after one line on stderr that says what is wrong; a wrong call exits with 2."""
    parsed = parser().parse_args(arguments)
    try:
        run(parsed)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
