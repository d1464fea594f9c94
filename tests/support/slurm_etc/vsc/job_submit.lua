-- What KU Leuven's submit filter does: --clusters and --account are mandatory, GPU jobs get their
-- share of a node's cores, and an account without credits is said, though the job is taken.
local cores_per_gpu = { gpu_a100 = 18, gpu_a100_debug = 64, gpu_v100 = 4 }

local function number(x)
  if x == nil or x == slurm.NO_VAL or x == slurm.NO_VAL64 or x == slurm.NO_VAL16 then return nil end
  return x
end

local function gpus(job)
  local asked = (job.tres_per_job or "") .. "," .. (job.tres_per_node or "")
  local gres = string.match(asked, "gres[:/]gpu([^,]*)")
  if not gres then return 0 end
  return tonumber(string.match(gres, "[:=](%d+)$")) or 1
end

function slurm_job_submit(job, partitions, uid)
  if not job.clusters or job.clusters == "" then
    slurm.log_user("--clusters is mandatory")
    return slurm.ERROR
  end
  if not job.account or job.account == "" then
    slurm.log_user("--account is mandatory (lp_xxx)")
    return slurm.ERROR
  end
  local limit = job.partition and cores_per_gpu[job.partition]
  if limit then
    local n = gpus(job)
    if n == 0 then
      slurm.log_user("partition " .. job.partition .. " requires a GPU request")
      return slurm.ERROR
    end
    local cores = (number(job.num_tasks) or 1) * (number(job.cpus_per_task) or 1)
    local per_gpu = tonumber(string.match(job.cpus_per_tres or "", "gpu[:=](%d+)$")) or 0
    if cores > limit * n or per_gpu > limit then
      slurm.log_user(job.partition .. ": at most " .. limit .. " cores per GPU")
      return slurm.ERROR
    end
  end
  if job.account == "lp_poor" then
    slurm.log_user("account lp_poor has insufficient credits: the job will not start")
  end
  return slurm.SUCCESS
end

function slurm_job_modify(job, record, partitions, uid)
  return slurm.SUCCESS
end

return slurm.SUCCESS
