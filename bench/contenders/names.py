"""What the contenders are called in figures and tables."""

BATCH, BATCH_SMALL = "batch", "batch-256"
LIBRARY, AUDIO_SERVER = "mlx-audio", "mlx-audio.server"
OTHER_TREE = "other tree"
OURS, MLX_LM, MLX_VLM = "mlx-local", "mlx-lm.server", "mlx-vlm.server"
OTHERS = {MLX_LM: "mlx_lm", MLX_VLM: "mlx_vlm"}
