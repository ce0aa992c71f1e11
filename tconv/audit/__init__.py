"""Finds the upsamplers of trained models that paint checkerboards, and repairs.

    tconv audit model.onnx --inputs 'photos/*.png' --html report.html
    tconv repair model.onnx -o repaired.onnx --inputs 'photos/*.png'

`inspect` audits a JAX function. An audit reads a model (`model.Model`), runs it
on probes, and compares the pattern that each kernel predicts with what is
measured in the activations and in the output.
"""
